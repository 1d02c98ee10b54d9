-- What pages of existing frontends keep on the server: settings of their own, which mean nothing to it.

CREATE TABLE page_settings (
    owner      text NOT NULL,
    name       text NOT NULL,
    settings   jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, name)
);
COMMENT ON TABLE page_settings IS 'Settings that a frontend''s pages show and change, by whose they are and which group they form.';
