-- What is known of companies: read from their own sites by jobs, or brought by lists.
CREATE TABLE companies (
    id       uuid        PRIMARY KEY,
    owner    text        NOT NULL,
    domain   text        NOT NULL,
    job_id   uuid        REFERENCES jobs (id) ON DELETE SET NULL,
    ordinal  integer     NOT NULL DEFAULT 0,
    source   text        NOT NULL CHECK (source IN ('site', 'list')),
    approved boolean,
    error    text,
    profile  jsonb       NOT NULL DEFAULT '{}',
    found_at timestamptz NOT NULL DEFAULT now(),
    CHECK (approved IS NOT TRUE OR error IS NULL)
);

COMMENT ON TABLE companies IS 'One row each time that a company was looked up or listed, failures too. The newest approved row of an owner and domain is what is known; older ones are its history. Rows outlive their jobs.';
COMMENT ON COLUMN companies.approved IS 'NULL: a person has still to say whether it is right.';
COMMENT ON COLUMN companies.error IS 'Why nothing was found.';

CREATE INDEX companies_newest ON companies (owner, domain, found_at DESC, id) WHERE approved;
CREATE INDEX companies_of_job ON companies (job_id, ordinal);
