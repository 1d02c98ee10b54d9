-- Who calls: keys of machines, and whose the events are that everybody was told so far.

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    prefix       text NOT NULL UNIQUE,
    sha256       bytea NOT NULL UNIQUE,
    name         text NOT NULL,
    subject      text NOT NULL,
    scopes       text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    expires_at   timestamptz,
    revoked_at   timestamptz
);
COMMENT ON TABLE api_keys IS
    'Keys of programs that call as a subject. Of the key itself only its SHA-256 is kept (it is 256 random bits, so nothing slower is needed) and its beginning, by which people tell keys apart. A revoked key stays, so that it is known what it was.';
CREATE INDEX api_keys_of_subject ON api_keys (subject, created_at);
CREATE INDEX api_keys_revoked ON api_keys (revoked_at) WHERE revoked_at IS NOT NULL;

ALTER TABLE events ADD COLUMN owner text;
COMMENT ON COLUMN events.owner IS
    'Of job:created alone, which goes to all clients of the job''s owner: who that is. Empty for jobs of nobody in particular.';

CREATE INDEX jobs_of_owner ON jobs (owner, created_at DESC, id);
