ALTER TABLE templates RENAME COLUMN svg TO source;
ALTER TABLE templates
    ADD COLUMN kind        text    NOT NULL DEFAULT 'svg' CHECK (kind IN ('svg', 'layers', 'editor', 'auto')),
    ADD COLUMN description text,
    ADD COLUMN built_in    boolean NOT NULL DEFAULT false,
    ADD COLUMN auto_match  boolean NOT NULL DEFAULT false;
UPDATE templates SET built_in = true;
COMMENT ON TABLE templates IS
    'Label templates. source is an SVG with boxes, or the JSON of layers or of the visual editor (kind). Those that are built_in come with the binary and are written at start. auto_match marks candidates of rules that choose a template; the row "auto" stands for that choice.';
CREATE INDEX templates_name ON templates (lower(name));

INSERT INTO templates (id, name, description, width_mm, height_mm, dpi, kind, source, built_in)
VALUES ('auto', 'Automatic', 'Each product gets the template whose rules fit it best.', 70, 42, 300, 'auto', '', true)
ON CONFLICT (id) DO NOTHING;
