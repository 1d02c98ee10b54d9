-- Projects of the project agents: what is to be made, and the job that makes it.

CREATE TABLE projects (
    id                uuid PRIMARY KEY,
    owner             text NOT NULL,
    name              text NOT NULL,
    description       text NOT NULL,
    requirements      text NOT NULL,
    app_type          text NOT NULL,
    target_platforms  jsonb NOT NULL,
    architecture_type text NOT NULL,
    runs              integer NOT NULL DEFAULT 0,
    job_id            uuid REFERENCES jobs ON DELETE SET NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE projects IS
    'What is to be generated. runs counts the jobs that were begun for it, whose ids follow from the project''s; job_id is the newest.';
CREATE INDEX projects_of_owner ON projects (owner, created_at DESC, id DESC);
