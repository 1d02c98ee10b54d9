-- Articles that jobs and people put together, and all that a price list says of a product.

CREATE TABLE articles (
    id                 uuid PRIMARY KEY,
    article_number     text NOT NULL UNIQUE,
    product_name       text NOT NULL,
    description        text,
    price              double precision NOT NULL DEFAULT 0,
    price_type         text NOT NULL DEFAULT 'unknown' CHECK (price_type IN ('normal', 'tiered', 'auf_anfrage', 'unknown')),
    tiers              jsonb NOT NULL DEFAULT '[]',
    tiered_prices_text text,
    currency           text NOT NULL DEFAULT 'EUR',
    image_key          text,
    thumbnail_key      text,
    image_url          text,
    thumbnail_url      text,
    ean                text,
    category           text,
    manufacturer       text,
    source_url         text NOT NULL DEFAULT '',
    job_id             uuid REFERENCES jobs ON DELETE SET NULL,
    ocr_confidence     double precision,
    verified           boolean NOT NULL DEFAULT false,
    published          boolean NOT NULL DEFAULT true,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE articles IS
    'One row an article number, put together of all readings (newest wins) and of what people entered: in a verified row a reading fills only what is empty. Not to be taken for products, which readings are matched against. image_key and thumbnail_key are objects of job_id, and gone with it; image_url and thumbnail_url are addresses that people entered.';
CREATE INDEX articles_created ON articles (created_at DESC, id);
CREATE INDEX articles_category ON articles (category) WHERE category IS NOT NULL;
CREATE INDEX articles_of_job ON articles (job_id) WHERE job_id IS NOT NULL;

ALTER TABLE products ADD COLUMN additional_info text;
ALTER TABLE products ADD COLUMN custom_fields jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN products.custom_fields IS 'Every other column of the price list that has a value, by its heading.';
CREATE INDEX products_import ON products (import_id) WHERE import_id IS NOT NULL;

ALTER TABLE excel_imports ADD COLUMN error_count integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN excel_imports.products IS 'The products of a list that came with a job, for that job alone; empty for a list that only made products known.';
CREATE INDEX excel_imports_uploaded ON excel_imports (uploaded_at DESC);
