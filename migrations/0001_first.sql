-- Everything that Jobcast keeps. An applied file is never edited; a change is a new file.
-- Locks are taken in one order everywhere: a job's row, its tasks (by id), the head of the journal.

CREATE TABLE journal_head (
    id       smallint PRIMARY KEY CHECK (id = 1),
    position bigint   NOT NULL
);
COMMENT ON TABLE journal_head IS
    'The last position given out. Its row lock is held until commit, so the order of positions is the order of commits and reading "position > last" skips nothing.';
INSERT INTO journal_head VALUES (1, 0);

CREATE TABLE templates (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    width_mm   double precision NOT NULL,
    height_mm  double precision NOT NULL,
    dpi        integer NOT NULL,
    svg        text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE templates IS 'Label templates; those that come with the binary are written at start.';

CREATE TABLE excel_imports (
    id          uuid PRIMARY KEY,
    file_name   text NOT NULL,
    file_size   bigint NOT NULL,
    row_count   integer NOT NULL,
    headers     jsonb NOT NULL,
    products    jsonb NOT NULL,
    errors      jsonb NOT NULL,
    uploaded_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE excel_imports IS 'Uploaded price lists with the products that were read from them and the rows that were not.';

CREATE TABLE products (
    id             uuid PRIMARY KEY,
    article_number text NOT NULL UNIQUE,
    name           text NOT NULL,
    description    text,
    price          double precision,
    currency       text NOT NULL DEFAULT 'EUR',
    tiers          jsonb NOT NULL DEFAULT '[]',
    ean            text,
    category       text,
    import_id      uuid REFERENCES excel_imports ON DELETE SET NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE products IS 'The known products that readings are matched against; the newest import of an article number wins.';
CREATE INDEX products_ean ON products (ean) WHERE ean IS NOT NULL;

CREATE TABLE jobs (
    id          uuid PRIMARY KEY,
    job_type    text NOT NULL,
    name        text NOT NULL,
    status      text NOT NULL,
    phase       smallint NOT NULL,
    progress    smallint NOT NULL,
    tallies     jsonb NOT NULL,
    errors      jsonb NOT NULL,
    config      jsonb NOT NULL,
    last_seq    integer NOT NULL DEFAULT 0,
    error       text,
    results     jsonb,
    template_id text REFERENCES templates ON DELETE SET NULL,
    import_id   uuid REFERENCES excel_imports ON DELETE SET NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    started_at  timestamptz,
    ended_at    timestamptz
);
COMMENT ON TABLE jobs IS 'One row a job: its state as the pure rules in src/job left it. last_seq is the seq of its newest event.';
CREATE INDEX jobs_created ON jobs (created_at DESC, id);
CREATE INDEX jobs_status ON jobs (status) WHERE ended_at IS NULL;

CREATE TABLE events (
    position   bigint PRIMARY KEY,
    job_id     uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    seq        integer NOT NULL,
    kind       text NOT NULL,
    payload    json NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (job_id, seq)
);
COMMENT ON TABLE events IS
    'The journal. position orders all events, seq counts those of one job from 1 without a gap; payload is what clients get, byte for byte.';

CREATE TABLE tasks (
    id          uuid PRIMARY KEY,
    job_id      uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    stage       text NOT NULL,
    phase       smallint NOT NULL,
    ordinal     integer NOT NULL,
    payload     jsonb NOT NULL,
    state       text NOT NULL CHECK (state IN ('waiting', 'ready', 'running', 'done', 'failed', 'cancelled')),
    attempt     integer NOT NULL DEFAULT 0,
    fence       bigint NOT NULL DEFAULT 0,
    run_at      timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    node        uuid,
    last_error  text,
    announced   boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
COMMENT ON TABLE tasks IS
    'The queue: one item of one stage. fence counts claims; a worker whose fence is not the row''s has lost the task. announced is set with the event that tells of the start, so that it is told once. Tasks wait until their job reaches their phase.';
CREATE INDEX tasks_ready ON tasks (stage, run_at, ordinal) WHERE state = 'ready';
CREATE INDEX tasks_running ON tasks (lease_until) WHERE state = 'running';
CREATE INDEX tasks_of_job ON tasks (job_id, phase) WHERE state IN ('waiting', 'ready', 'running');

CREATE TABLE artifacts (
    key          text PRIMARY KEY,
    job_id       uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    content_type text NOT NULL,
    size         bigint NOT NULL,
    sha256       text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE artifacts IS 'Objects that a job made. Keys are derived from the job, so work that is done again writes the same object.';
CREATE INDEX artifacts_of_job ON artifacts (job_id);

CREATE TABLE screenshots (
    id            uuid PRIMARY KEY,
    job_id        uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    ordinal       integer NOT NULL,
    product_url   text NOT NULL,
    product_name  text,
    image_key     text NOT NULL,
    thumbnail_key text NOT NULL,
    width         integer NOT NULL,
    height        integer NOT NULL,
    file_size     bigint NOT NULL,
    complete      boolean NOT NULL,
    page_facts    jsonb NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE screenshots IS
    'Pictures of product pages with what the page itself declares (page_facts). complete is false when the page did not finish loading in time.';
CREATE INDEX screenshots_of_job ON screenshots (job_id, ordinal);

CREATE TABLE ocr_results (
    id            uuid PRIMARY KEY,
    screenshot_id uuid NOT NULL REFERENCES screenshots ON DELETE CASCADE,
    job_id        uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    ordinal       integer NOT NULL,
    confidence    double precision NOT NULL,
    full_text     text NOT NULL,
    reading       jsonb NOT NULL,
    facts         jsonb NOT NULL,
    disagreements jsonb NOT NULL,
    error         text,
    created_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ocr_results IS
    'What was read from a screenshot (reading), the values after the cross-check with the page (facts) and where the two disagree. error is set when nothing could be read.';
CREATE INDEX ocr_results_of_job ON ocr_results (job_id, ordinal);

CREATE TABLE matches (
    id            uuid PRIMARY KEY,
    ocr_result_id uuid NOT NULL REFERENCES ocr_results ON DELETE CASCADE,
    job_id        uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    ordinal       integer NOT NULL,
    success       boolean NOT NULL,
    match_type    text,
    matched_by    text,
    score         double precision NOT NULL,
    listed        jsonb,
    warnings      jsonb NOT NULL,
    reason        text,
    created_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE matches IS 'For each reading the known product that fits it (listed), or the reason why none does.';
CREATE INDEX matches_of_job ON matches (job_id, ordinal);

CREATE TABLE labels (
    id             uuid PRIMARY KEY,
    job_id         uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    match_id       uuid NOT NULL REFERENCES matches ON DELETE CASCADE,
    template_id    text NOT NULL REFERENCES templates,
    ordinal        integer NOT NULL,
    article_number text NOT NULL,
    facts          jsonb NOT NULL,
    image_key      text,
    pdf_key        text,
    width          integer,
    height         integer,
    file_size      bigint,
    render_ms      integer,
    warnings       jsonb NOT NULL,
    error          text,
    created_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE labels IS 'Rendered labels with the values that they show; error is set when one could not be rendered.';
CREATE INDEX labels_of_job ON labels (job_id, ordinal);

CREATE TABLE sessions (
    pid            text PRIMARY KEY,
    principal      text,
    rooms          jsonb NOT NULL,
    start_position bigint NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    seen_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sessions IS 'Socket.IO sessions that a client may come back to, on any node and after a restart.';
CREATE INDEX sessions_seen ON sessions (seen_at);
