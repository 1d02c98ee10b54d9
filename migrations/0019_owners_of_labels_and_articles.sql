-- Labels of the library and articles are somebody's, as the jobs are that made them: what they hold tells of those jobs.

ALTER TABLE library_labels ADD COLUMN owner text NOT NULL DEFAULT 'anonymous';
UPDATE library_labels SET owner = jobs.owner FROM jobs WHERE jobs.id = library_labels.job_id;
ALTER TABLE library_labels ALTER COLUMN owner DROP DEFAULT;
DROP INDEX library_labels_created;
CREATE INDEX library_labels_created ON library_labels (owner, created_at DESC, id);

ALTER TABLE articles ADD COLUMN owner text NOT NULL DEFAULT 'anonymous';
UPDATE articles SET owner = jobs.owner FROM jobs WHERE jobs.id = articles.job_id;
ALTER TABLE articles ALTER COLUMN owner DROP DEFAULT;
ALTER TABLE articles DROP CONSTRAINT articles_article_number_key;
ALTER TABLE articles ADD CONSTRAINT articles_number_of_owner UNIQUE (owner, article_number);
DROP INDEX articles_created;
CREATE INDEX articles_created ON articles (owner, created_at DESC, id);
COMMENT ON COLUMN articles.owner IS
    'Whose article it is; two owners may have one of the same number. Of an owner''s jobs all readings of a number come together in one row.';
