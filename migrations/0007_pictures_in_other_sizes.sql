-- Pictures in other sizes and formats, made when somebody first asks for one.

CREATE TABLE derived_objects (
    key          text PRIMARY KEY,
    source       text NOT NULL,
    content_type text NOT NULL,
    size         bigint NOT NULL,
    sha256       text NOT NULL,
    drawn        integer NOT NULL DEFAULT 1,
    used_at      timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE derived_objects IS
    'A cache: objects made of artifacts (source), the least recently used go first. used_at may lag behind by some minutes; drawn counts how often the object was made while its row was here. Rows whose source is gone are swept.';
CREATE INDEX derived_objects_used ON derived_objects (used_at DESC, key);
CREATE INDEX derived_objects_source ON derived_objects (source);
