-- What jobs reserved that came to nothing is given back in the transaction that ends them; once for those that ended before.

INSERT INTO credits (owner, month, delta, reason, job_id, number, description)
SELECT c.owner, c.month, -c.delta, 'job_refund', c.job_id, c.number, 'Refund of job ' || coalesce(c.number::text, c.job_id::text)
FROM credits c JOIN jobs j ON j.id = c.job_id
WHERE c.reason = 'job_reserve' AND j.status IN ('failed', 'cancelled')
ON CONFLICT (job_id, reason) WHERE job_id IS NOT NULL DO NOTHING;

COMMENT ON TABLE credits IS
    'A ledger: an owner''s balance in a month is the sum of delta. What a job reserves is written in the transaction that accepts the job, its refund in the one in which it fails or is cancelled; what it cost in the end is adjusted once. Rows stay when their job is removed.';
