-- The novel tool's credits: what its users may spend in a month, and on what they spent it.

CREATE TABLE credits (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner       text NOT NULL,
    month       text NOT NULL,
    delta       bigint NOT NULL,
    reason      text NOT NULL CHECK (reason IN ('monthly_grant', 'job_reserve', 'job_refund', 'job_adjust')),
    job_id      uuid,
    number      bigint,
    description text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE credits IS
    'A ledger: an owner''s balance in a month is the sum of delta. What a job reserves is written in the transaction that accepts the job; its refund when it was cancelled or has failed, once. Rows stay when their job is removed.';
CREATE UNIQUE INDEX credits_grant ON credits (owner, month) WHERE reason = 'monthly_grant';
CREATE UNIQUE INDEX credits_of_job ON credits (job_id, reason) WHERE job_id IS NOT NULL;
CREATE INDEX credits_of_owner ON credits (owner, month, id);
