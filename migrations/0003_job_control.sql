-- Pause, retry, priority, owners, idempotency keys, schedules, and the removal of old jobs with their objects.

CREATE TABLE schedules (
    id              uuid PRIMARY KEY,
    owner           text NOT NULL,
    name            text NOT NULL,
    cron            text NOT NULL,
    timezone        text NOT NULL,
    job             jsonb NOT NULL,
    enabled         boolean NOT NULL,
    overlap         text NOT NULL CHECK (overlap IN ('skip', 'queue')),
    next_run        timestamptz,
    last_run_at     timestamptz,
    last_skipped_at timestamptz,
    last_error      text,
    runs            bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE schedules IS
    'Jobs that begin by themselves. next_run moves on in the transaction that creates the job, so each run makes one job however many servers look; job is what POST /v1/jobs would take.';
CREATE INDEX schedules_due ON schedules (next_run) WHERE enabled;
CREATE INDEX schedules_of_owner ON schedules (owner, created_at);

ALTER TABLE jobs ADD COLUMN owner text NOT NULL DEFAULT 'anonymous';
ALTER TABLE jobs ADD COLUMN priority smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100);
ALTER TABLE jobs ADD COLUMN paused_from text;
ALTER TABLE jobs ADD COLUMN slot text NOT NULL DEFAULT 'none' CHECK (slot IN ('none', 'waits', 'has'));
ALTER TABLE jobs ADD COLUMN retry_of uuid REFERENCES jobs ON DELETE SET NULL;
ALTER TABLE jobs ADD COLUMN schedule_id uuid REFERENCES schedules ON DELETE SET NULL;
COMMENT ON COLUMN jobs.paused_from IS 'The status that a paused job goes on with.';
COMMENT ON COLUMN jobs.slot IS
    'Of one owner''s jobs only so many are worked on at once: those that have a slot. Others wait for one; paused, ended and unplanned jobs need none.';
UPDATE jobs SET slot = 'has' WHERE ended_at IS NULL AND config <> 'null';
CREATE INDEX jobs_with_slot ON jobs (owner) WHERE slot = 'has';
CREATE INDEX jobs_waiting ON jobs (owner, priority DESC, created_at, id) WHERE slot = 'waits';
CREATE INDEX jobs_retry_of ON jobs (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX jobs_of_schedule ON jobs (schedule_id) WHERE schedule_id IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;

ALTER TABLE tasks ADD COLUMN priority smallint NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN due_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN tasks.priority IS 'That of its job.';
COMMENT ON COLUMN tasks.due_at IS
    'Its turn among tasks of one priority: when it became ready, and later the more items of its job stood before it. So a small job does not wait for all of a big one, and a big one''s last item is not put off for ever by small ones.';
DROP INDEX tasks_ready;
CREATE INDEX tasks_ready ON tasks (stage, priority DESC, due_at, id) WHERE state = 'ready';

CREATE TABLE idempotency_keys (
    owner      text NOT NULL,
    key        text NOT NULL,
    request    text NOT NULL,
    job_id     uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, key)
);
COMMENT ON TABLE idempotency_keys IS
    'Keys that clients sent with a new job, and the SHA-256 of what they asked for: the same request is answered with the same job. Written in the transaction that creates the job.';
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_of_job ON idempotency_keys (job_id);

CREATE TABLE artifact_uses (
    key    text NOT NULL REFERENCES artifacts ON UPDATE CASCADE ON DELETE CASCADE,
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    PRIMARY KEY (key, job_id)
);
COMMENT ON TABLE artifact_uses IS
    'Jobs whose rows name an object that another job made: a retry takes over what succeeded. When the maker is removed, one of them becomes the owner.';
CREATE INDEX artifact_uses_of_job ON artifact_uses (job_id);

CREATE TABLE objects_to_delete (
    name   text PRIMARY KEY,
    due_at timestamptz NOT NULL DEFAULT now(),
    passes integer NOT NULL DEFAULT 0
);
COMMENT ON TABLE objects_to_delete IS
    'Objects of removed jobs that are yet to go from the object store: keys, and folders, which end with a slash. Written in the transaction that removes the job; an object that has a row in artifacts stays.';
CREATE INDEX objects_to_delete_due ON objects_to_delete (due_at);
