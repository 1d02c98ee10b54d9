-- What it takes to continue a Socket.IO session anywhere, and to know when that is not possible any more.

ALTER TABLE sessions ALTER COLUMN rooms SET DEFAULT '{}';
ALTER TABLE sessions ADD COLUMN generation integer NOT NULL DEFAULT 1;
ALTER TABLE sessions ADD COLUMN stale_offset bigint;
COMMENT ON COLUMN sessions.rooms IS
    'Job id → its room: doors, number, after, since, broadcasts, live, before. What the client is due of a job begins behind "after".';
COMMENT ON COLUMN sessions.stale_offset IS
    'The offset that the client had from an earlier session; it goes on naming it until it is told something.';
COMMENT ON COLUMN sessions.start_position IS 'The journal''s position at the first connect; what was due since then is due to a client that names no offset.';
COMMENT ON COLUMN sessions.generation IS 'Fencing token: one more each time that the session is taken up; who holds an older one may not write.';

ALTER TABLE journal_head ADD COLUMN floor bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN journal_head.floor IS 'Events up to here may be gone; nobody is promised what lies before.';

ALTER TABLE jobs ADD COLUMN events_forgotten boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN jobs.events_forgotten IS 'Its events were older than retention and are gone; its state and results are kept.';

-- What everybody was told is looked for among millions of events that they were not told.
CREATE INDEX events_broadcast ON events (position) WHERE kind = 'job:created';
