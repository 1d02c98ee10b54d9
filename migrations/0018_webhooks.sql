-- Webhooks: addresses that are told of their owners' events, with a cursor over the journal each.

CREATE TABLE webhooks (
    id                uuid PRIMARY KEY,
    owner             text NOT NULL,
    url               text NOT NULL,
    events            text[] NOT NULL,
    job_id            uuid,
    description       text NOT NULL,
    secret            bytea NOT NULL,
    old_secret        bytea,
    old_secret_until  timestamptz,
    enabled           boolean NOT NULL,
    disabled_reason   text,
    disabled_at       timestamptz,
    cursor            bigint NOT NULL,
    fence             bigint NOT NULL DEFAULT 0,
    lease_until       timestamptz,
    served_at         timestamptz,
    delivered         bigint NOT NULL DEFAULT 0,
    last_delivered_at timestamptz,
    last_failed_at    timestamptz,
    last_error        text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE webhooks IS
    'Addresses that are told of events of their owner''s jobs. cursor is the position up to which the journal was made into deliveries; fence counts the processes that took the endpoint up, and what one reports whose fence is not the row''s counts for nothing.';
COMMENT ON COLUMN webhooks.events IS 'Names of events; with a star at the end all that begin so.';
COMMENT ON COLUMN webhooks.job_id IS
    'Tells of this job alone. No foreign key: what is still to be delivered of a removed job is delivered.';
COMMENT ON COLUMN webhooks.secret IS 'Signs what is sent, so it is kept as it is. Never logged, shown once.';
CREATE INDEX webhooks_of_owner ON webhooks (owner, created_at);

CREATE TABLE webhook_deliveries (
    webhook_id       uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    position         bigint NOT NULL,
    job_id           uuid NOT NULL,
    seq              integer NOT NULL,
    kind             text NOT NULL,
    payload          json NOT NULL,
    happened_at      timestamptz NOT NULL,
    state            text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'failed')),
    attempts         integer NOT NULL DEFAULT 0,
    due_at           timestamptz NOT NULL DEFAULT now(),
    first_attempt_at timestamptz,
    last_attempt_at  timestamptz,
    last_status      integer,
    last_error       text,
    PRIMARY KEY (webhook_id, position)
);
COMMENT ON TABLE webhook_deliveries IS
    'Events that an endpoint is still to be told, or that were given up (failed); what was delivered is gone. The payload is a copy, so the removal of a job or of old events takes nothing from anybody.';
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (webhook_id, position) WHERE state = 'failed';
