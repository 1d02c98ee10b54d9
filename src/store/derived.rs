//! Objects that are made of others when somebody asks for them: which there are, and which have to go.

use super::{Artifact, Store, StoreError, rows};

/// A use is written down only if the last one was so many seconds ago.
const USE_COUNTS_EVERY: f64 = 600.0;

impl Store {
    /// What is known of a derived object; that it was asked for keeps it longer.
    pub async fn derived(&self, key: &str) -> Result<Option<Artifact>, StoreError> {
        let row = sqlx::query(
            "WITH used AS (UPDATE derived_objects SET used_at = now()
                           WHERE key = $1 AND used_at < now() - make_interval(secs => $2))
             SELECT key, content_type, size, sha256 FROM derived_objects WHERE key = $1",
        )
        .bind(key)
        .bind(USE_COUNTS_EVERY)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.as_ref().map(rows::artifact).transpose()?)
    }

    /// Keeps a derived object, if what it was made of is still there; returns whether it is.
    pub async fn keep_derived(&self, derived: &Artifact, source: &str) -> Result<bool, StoreError> {
        let kept = sqlx::query(
            "INSERT INTO derived_objects (key, source, content_type, size, sha256)
             SELECT $1, $2, $3, $4, $5 WHERE EXISTS (SELECT FROM artifacts WHERE key = $2)
             ON CONFLICT (key) DO UPDATE SET content_type = excluded.content_type, size = excluded.size,
                 sha256 = excluded.sha256, drawn = derived_objects.drawn + 1, used_at = now()",
        )
        .bind(&derived.key)
        .bind(source)
        .bind(&derived.content_type)
        .bind(derived.size)
        .bind(&derived.sha256)
        .execute(&self.pool)
        .await?;
        Ok(kept.rows_affected() > 0)
    }

    /// Forgets a derived object.
    pub async fn forget_derived(&self, key: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM derived_objects WHERE key = $1").bind(key).execute(&self.pool).await?;
        Ok(())
    }

    /// If derived objects take more bytes than they may, forgets those that were not used for longest, and some more, so
    /// that there is room for a while; and those whose source is gone. Returns the keys of the objects to be removed.
    pub async fn evict_derived(&self, max_bytes: u64) -> Result<Vec<String>, StoreError> {
        let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        let keys = sqlx::query_scalar(
            "WITH by_use AS (
                 SELECT key, source, sum(size) OVER () AS total,
                        sum(size) OVER (ORDER BY used_at DESC, key) AS newer FROM derived_objects)
             DELETE FROM derived_objects USING by_use
             WHERE derived_objects.key = by_use.key
               AND ((by_use.total > $1 AND by_use.newer > $1 / 10 * 9)
                    OR NOT EXISTS (SELECT FROM artifacts WHERE artifacts.key = by_use.source))
             RETURNING derived_objects.key",
        )
        .bind(max_bytes)
        .fetch_all(&self.pool)
        .await?;
        Ok(keys)
    }
}
