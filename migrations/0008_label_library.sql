-- The library of labels: what jobs and people made, found again, changed, and printed on sheets.

CREATE TABLE library_labels (
    id             uuid PRIMARY KEY,
    job_id         uuid REFERENCES jobs ON DELETE SET NULL,
    article_number text NOT NULL,
    product_name   text NOT NULL,
    description    text,
    price          double precision,
    currency       text NOT NULL,
    unit           text,
    tiers          jsonb NOT NULL DEFAULT '[]',
    ean            text,
    template_id    text,
    template_type  text NOT NULL CHECK (template_type IN ('minimal', 'standard', 'extended', 'custom')),
    category       text,
    tags           text[] NOT NULL DEFAULT '{}',
    source         text NOT NULL CHECK (source IN ('screenshot', 'manual', 'import')),
    shop_url       text,
    image_url      text,
    qr_code        jsonb,
    picture        bytea,
    picture_type   text,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL
);
COMMENT ON TABLE library_labels IS
    'The values of each label and the template that shows them; a picture is drawn whenever it is asked for, but for one that came with its own (picture). A label that a job made is written with its row of labels, has its id, and stays when the job is removed.';
CREATE INDEX library_labels_created ON library_labels (created_at DESC, id);
CREATE INDEX library_labels_job ON library_labels (job_id) WHERE job_id IS NOT NULL;

INSERT INTO library_labels (id, job_id, article_number, product_name, description, price, currency, tiers, ean,
                            template_id, template_type, category, source, shop_url, created_at, updated_at)
SELECT label.id, label.job_id, label.article_number, coalesce(label.facts->>'name', ''), label.facts->>'description',
       (label.facts->>'price')::float8, coalesce(label.facts->>'currency', 'EUR'),
       coalesce(label.facts->'tiers', '[]'), label.facts->>'ean', label.template_id,
       CASE label.template_id WHEN 'compact-label' THEN 'minimal' WHEN 'standard-label' THEN 'standard'
                              WHEN 'detailed-label' THEN 'extended' ELSE 'custom' END,
       (SELECT category FROM products WHERE products.article_number = label.article_number), 'screenshot',
       screenshot.product_url, label.created_at, label.created_at
FROM labels label
     LEFT JOIN matches ON matches.id = label.match_id
     LEFT JOIN ocr_results reading ON reading.id = matches.ocr_result_id
     LEFT JOIN screenshots screenshot ON screenshot.id = reading.screenshot_id
WHERE label.error IS NULL;

CREATE TABLE print_layouts (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    body       jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
COMMENT ON TABLE print_layouts IS
    'Layouts of print sheets that people saved; body is what their page sent, and is given back as it came.';
