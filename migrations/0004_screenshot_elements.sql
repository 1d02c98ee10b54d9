-- What stands on a product page beside the product as a whole: its title, number, price, description and picture.

ALTER TABLE screenshots ADD COLUMN layout_type text NOT NULL DEFAULT 'unknown'
    CHECK (layout_type IN ('single_price', 'tiered_price', 'unknown'));
ALTER TABLE screenshots ADD COLUMN page_title text NOT NULL DEFAULT '';
COMMENT ON COLUMN screenshots.layout_type IS 'Whether the page shows one price, a table of prices by quantity, or neither that was found.';

CREATE TABLE screenshot_elements (
    screenshot_id uuid NOT NULL REFERENCES screenshots ON DELETE CASCADE,
    job_id        uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    kind          text NOT NULL,
    folder        text NOT NULL,
    key           text NOT NULL UNIQUE,
    page_x        double precision NOT NULL,
    page_y        double precision NOT NULL,
    page_width    double precision NOT NULL,
    page_height   double precision NOT NULL,
    width         integer NOT NULL,
    height        integer NOT NULL,
    file_size     bigint NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (screenshot_id, kind)
);
COMMENT ON TABLE screenshot_elements IS
    'Pictures of single parts of a product page (kind: product-image, title, article-number, price, price-table, description). folder is the article number or product-N, one a page; page_* is the box in CSS pixels from the page''s top left corner, width and height are the picture''s pixels.';
CREATE INDEX screenshot_elements_of_job ON screenshot_elements (job_id, folder);
