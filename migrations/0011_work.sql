-- Jobs that workers outside of this server do: their kinds, what was asked, how they stand, and who has them.

CREATE SEQUENCE job_numbers;

ALTER TABLE jobs ADD COLUMN kind text;
ALTER TABLE jobs ADD COLUMN number bigint;
ALTER TABLE jobs ADD COLUMN step text;
COMMENT ON COLUMN jobs.kind IS 'What workers outside of this server do with it; such a job has a row in work. Null for all other jobs.';
COMMENT ON COLUMN jobs.number IS
    'For frontends that know jobs by a number. A retry takes over its forerunner''s, which then has none.';
COMMENT ON COLUMN jobs.step IS 'What its worker says to be at work on.';
CREATE UNIQUE INDEX jobs_number ON jobs (number) WHERE number IS NOT NULL;
CREATE INDEX jobs_of_kind ON jobs (kind, created_at DESC, id) WHERE kind IS NOT NULL;

CREATE TABLE work_kinds (
    name          text PRIMARY KEY,
    prefix        text NOT NULL UNIQUE,
    description   text NOT NULL DEFAULT '',
    lease_seconds integer,
    max_attempts  integer,
    max_waiting   bigint,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE work_kinds IS
    'What workers outside of this server do. prefix stands before the names of their own events; what is null is as the settings say.';

CREATE TABLE work (
    job_id        uuid PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    kind          text NOT NULL,
    state         text NOT NULL CHECK (state IN ('waiting', 'ready', 'running', 'ended')),
    priority      smallint NOT NULL,
    due_at        timestamptz NOT NULL,
    run_at        timestamptz NOT NULL DEFAULT now(),
    input         jsonb NOT NULL,
    initial       jsonb NOT NULL,
    document      jsonb NOT NULL,
    attempt       integer NOT NULL DEFAULT 0,
    max_attempts  integer NOT NULL,
    retries       integer NOT NULL DEFAULT 0,
    fence         bigint NOT NULL DEFAULT 0,
    worker        text,
    lease_seconds integer NOT NULL,
    lease_until   timestamptz,
    heartbeat_at  timestamptz,
    message       text,
    last_error    text,
    requests      bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE work IS
    'The queue of jobs that workers outside of this server do, one row a job. It waits while its job is paused. fence counts claims: a worker whose fence is not the row''s has lost the job. document is what the job''s patches made of {}; initial is what a retry begins with; due_at is its turn among those of one priority.';
CREATE INDEX work_ready ON work (kind, priority DESC, due_at, job_id) WHERE state = 'ready';
CREATE INDEX work_running ON work (lease_until) WHERE state = 'running';

CREATE TABLE work_requests (
    job_id   uuid NOT NULL REFERENCES work ON DELETE CASCADE,
    id       text NOT NULL,
    ordinal  bigint NOT NULL,
    request  text NOT NULL,
    answer   jsonb NOT NULL,
    PRIMARY KEY (job_id, id)
);
COMMENT ON TABLE work_requests IS
    'Requests of workers by their ids, with the SHA-256 of what was asked and the answer, so that one that is repeated is answered again and does nothing. Of each job the newest are kept, by ordinal.';
CREATE INDEX work_requests_age ON work_requests (job_id, ordinal);

CREATE TABLE work_artifacts (
    job_id uuid NOT NULL REFERENCES work ON DELETE CASCADE,
    name   text NOT NULL,
    key    text NOT NULL REFERENCES artifacts ON UPDATE CASCADE ON DELETE CASCADE,
    PRIMARY KEY (job_id, name)
);
COMMENT ON TABLE work_artifacts IS
    'The newest object of each name that was stored with a job. Objects that an older attempt stored under the name stay, for events name them.';
CREATE INDEX work_artifacts_key ON work_artifacts (key);
