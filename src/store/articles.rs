//! Articles: what jobs read and people entered of a product, one row an article number.

use postgres_types::Type;
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{Store, StoreError, copy::Copy};
use crate::{
    event::Timestamp,
    job::JobId,
    product::{Tier, article::PriceType},
};

/// Categories that the statistics name at the most.
const CATEGORIES: i64 = 200;
/// Rows that an export reads at once.
const PAGE: i64 = 500;

/// An article's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Article {
    pub id: Uuid,
    /// Whose it is; a reading's is its job's owner's.
    pub owner: String,
    pub article_number: String,
    pub product_name: String,
    pub description: Option<String>,
    /// 0 when none is known.
    pub price: f64,
    pub price_type: PriceType,
    pub tiers: Vec<Tier>,
    /// The tier prices as the shop writes them.
    pub tiered_prices_text: Option<String>,
    pub currency: String,
    /// Objects of `job_id`.
    pub image_key: Option<String>,
    pub thumbnail_key: Option<String>,
    /// Addresses that people entered; they come before the objects.
    pub image_url: Option<String>,
    pub thumbnail_url: Option<String>,
    pub ean: Option<String>,
    pub category: Option<String>,
    pub manufacturer: Option<String>,
    pub source_url: String,
    pub job_id: Option<Uuid>,
    /// 0 to 100.
    pub ocr_confidence: Option<f64>,
    /// Whether a person looked at it: what it holds is not overwritten by readings any more.
    pub verified: bool,
    pub published: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What a reading says of an article.
#[derive(Clone, Debug, Default)]
pub struct ArticleRow {
    pub article_number: String,
    pub product_name: Option<String>,
    pub description: Option<String>,
    pub price: Option<f64>,
    pub price_type: PriceType,
    pub tiers: Vec<Tier>,
    pub tiered_prices_text: Option<String>,
    pub currency: Option<String>,
    pub image_key: Option<String>,
    pub thumbnail_key: Option<String>,
    pub ean: Option<String>,
    pub source_url: String,
    pub ocr_confidence: f64,
}

/// Which articles are wanted, and in which order.
#[derive(Clone, Debug, Default)]
pub struct ArticleQuery {
    /// In the number, the name, the description, the EAN or the manufacturer.
    pub search: Option<String>,
    pub category: Option<String>,
    pub verified: Option<bool>,
    pub published: Option<bool>,
    pub sort: ArticleSort,
    pub ascending: bool,
    pub limit: i64,
    pub offset: i64,
}

/// What a list of articles may be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArticleSort {
    #[default]
    CreatedAt,
    UpdatedAt,
    ArticleNumber,
    ProductName,
    Price,
    Category,
    Manufacturer,
    Ean,
    OcrConfidence,
    Verified,
    Published,
}

impl ArticleSort {
    /// Every order, with the name that pages give it.
    pub const ALL: [(&'static str, ArticleSort); 11] = [
        ("createdAt", ArticleSort::CreatedAt),
        ("updatedAt", ArticleSort::UpdatedAt),
        ("articleNumber", ArticleSort::ArticleNumber),
        ("productName", ArticleSort::ProductName),
        ("price", ArticleSort::Price),
        ("category", ArticleSort::Category),
        ("manufacturer", ArticleSort::Manufacturer),
        ("ean", ArticleSort::Ean),
        ("ocrConfidence", ArticleSort::OcrConfidence),
        ("verified", ArticleSort::Verified),
        ("published", ArticleSort::Published),
    ];

    fn column(self) -> &'static str {
        match self {
            ArticleSort::CreatedAt => "created_at",
            ArticleSort::UpdatedAt => "updated_at",
            ArticleSort::ArticleNumber => "article_number",
            ArticleSort::ProductName => "lower(product_name)",
            ArticleSort::Price => "price",
            ArticleSort::Category => "category",
            ArticleSort::Manufacturer => "manufacturer",
            ArticleSort::Ean => "ean",
            ArticleSort::OcrConfidence => "ocr_confidence",
            ArticleSort::Verified => "verified",
            ArticleSort::Published => "published",
        }
    }
}

/// Counts over all articles.
#[derive(Clone, Debug)]
pub struct ArticleStats {
    pub total: i64,
    pub with_images: i64,
    pub verified: i64,
    pub published: i64,
    /// With how many articles each, the largest first.
    pub categories: Vec<(String, i64)>,
}

/// A row of a spreadsheet that changes an article.
#[derive(Clone, Debug, PartialEq)]
pub struct ArticleUpdate {
    pub article_number: String,
    /// By the names of `ARTICLE_FIELDS`; what is absent stays as it is.
    pub fields: Value,
}

/// What became of a spreadsheet's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArticlesUpdated {
    /// Rows whose article number there is.
    pub matched: i64,
    pub updated: i64,
}

/// Writes what a reading says. Of an article that a person verified it fills only what is empty; else what was read
/// wins, and what was not read stays.
pub(super) async fn consolidate(
    tx: &mut PgConnection,
    job: JobId,
    row: &ArticleRow,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO articles AS a (id, owner, article_number, product_name, description, price, price_type, tiers,
                                    tiered_prices_text, currency, image_key, thumbnail_key, ean, source_url, job_id,
                                    ocr_confidence)
         VALUES ($1, (SELECT owner FROM jobs WHERE id = $14), $2, coalesce($3, $2), $4, coalesce($5, 0), $6, $7, $8, coalesce($9, 'EUR'), $10, $11, $12, $13, $14,
                 $15)
         ON CONFLICT (owner, article_number) DO UPDATE SET
             product_name = CASE WHEN a.verified THEN a.product_name ELSE coalesce($3, a.product_name) END,
             description = CASE WHEN a.verified THEN coalesce(a.description, $4) ELSE coalesce($4, a.description) END,
             price = CASE WHEN (a.verified AND a.price <> 0) OR $5 IS NULL THEN a.price ELSE $5 END,
             tiers = CASE WHEN (a.verified AND a.tiers <> '[]') OR $7 = '[]' THEN a.tiers ELSE $7 END,
             price_type = CASE WHEN (a.verified AND a.price_type <> 'unknown') OR $6 = 'unknown' THEN a.price_type
                               ELSE $6 END,
             tiered_prices_text = CASE WHEN a.verified THEN coalesce(a.tiered_prices_text, $8)
                                       ELSE coalesce($8, a.tiered_prices_text) END,
             currency = CASE WHEN a.verified THEN a.currency ELSE coalesce($9, a.currency) END,
             image_key = CASE WHEN a.verified AND a.job_id IS NOT NULL THEN coalesce(a.image_key, $10) ELSE $10 END,
             thumbnail_key = CASE WHEN a.verified AND a.job_id IS NOT NULL THEN coalesce(a.thumbnail_key, $11)
                                  ELSE $11 END,
             ean = CASE WHEN a.verified THEN coalesce(a.ean, $12) ELSE coalesce($12, a.ean) END,
             source_url = CASE WHEN a.verified AND a.source_url <> '' THEN a.source_url ELSE $13 END,
             job_id = CASE WHEN a.verified AND a.job_id IS NOT NULL THEN a.job_id ELSE $14 END,
             ocr_confidence = CASE WHEN a.verified THEN coalesce(a.ocr_confidence, $15) ELSE $15 END,
             updated_at = now()",
    )
    .bind(Uuid::now_v7())
    .bind(&row.article_number)
    .bind(&row.product_name)
    .bind(&row.description)
    .bind(row.price)
    .bind(row.price_type.word())
    .bind(json!(row.tiers))
    .bind(&row.tiered_prices_text)
    .bind(&row.currency)
    .bind(&row.image_key)
    .bind(&row.thumbnail_key)
    .bind(&row.ean)
    .bind(&row.source_url)
    .bind(job.0)
    .bind(row.ocr_confidence)
    .execute(tx)
    .await?;
    Ok(())
}

impl Store {
    /// A page of the list of an owner's articles, or of everybody's, and how many there are in all.
    pub async fn articles(
        &self,
        owner: Option<&str>,
        query: &ArticleQuery,
    ) -> Result<(Vec<Article>, i64), StoreError> {
        let mut count = QueryBuilder::<Postgres>::new("SELECT count(*) FROM articles");
        push_filter(&mut count, owner, query);
        let total = count.build_query_scalar().fetch_one(&self.pool).await?;
        let mut list = QueryBuilder::<Postgres>::new("SELECT * FROM articles");
        push_filter(&mut list, owner, query);
        let direction = if query.ascending { "ASC" } else { "DESC" };
        list.push(format_args!(" ORDER BY {} {direction} NULLS LAST, id LIMIT ", query.sort.column()));
        list.push_bind(query.limit).push(" OFFSET ").push_bind(query.offset);
        let rows = list.build().fetch_all(&self.pool).await?;
        Ok((rows.iter().map(article).collect::<Result<_, _>>()?, total))
    }

    /// An owner's articles behind an id in the order of ids, all or some, as many as an export takes at once.
    pub async fn articles_after(
        &self,
        owner: Option<&str>,
        after: Uuid,
        ids: Option<&[Uuid]>,
    ) -> Result<Vec<Article>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM articles WHERE id > $1 AND ($2::uuid[] IS NULL OR id = ANY($2))
                    AND ($4::text IS NULL OR owner = $4) ORDER BY id LIMIT $3",
        )
        .bind(after)
        .bind(ids)
        .bind(PAGE)
        .bind(owner)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(article).collect()
    }

    /// One article, if it is this owner's; for nobody in particular, anybody's.
    pub async fn article(&self, id: Uuid, owner: Option<&str>) -> Result<Option<Article>, StoreError> {
        let row = sqlx::query("SELECT * FROM articles WHERE id = $1 AND ($2::text IS NULL OR owner = $2)")
            .bind(id)
            .bind(owner)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(article).transpose()
    }

    /// Adds an article; `false` when another of its owner's has its number.
    pub async fn add_article(&self, article: &Article) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let added = sqlx::query(
            "INSERT INTO articles (id, article_number, product_name, owner) VALUES ($1, $2, $3, $4)
             ON CONFLICT (owner, article_number) DO NOTHING",
        )
        .bind(article.id)
        .bind(&article.article_number)
        .bind(&article.product_name)
        .bind(&article.owner);
        let mut tx = sqlx::Connection::begin(&mut *connection).await?;
        if added.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        write(&mut tx, article).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Changes articles of an owner together or not at all, in the order of their ids, and returns those that there are.
    ///
    /// # Errors
    /// What `change` refuses; nothing is changed then.
    pub async fn change_articles<E: From<StoreError>>(
        &self,
        ids: &[Uuid],
        owner: Option<&str>,
        mut change: impl FnMut(Article) -> Result<Article, E>,
    ) -> Result<Vec<Article>, E> {
        let mut tx = self.pool.begin().await.map_err(StoreError::from)?;
        let rows = sqlx::query(
            "SELECT * FROM articles WHERE id = ANY($1) AND ($2::text IS NULL OR owner = $2) ORDER BY id FOR UPDATE",
        )
        .bind(ids)
        .bind(owner)
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::from)?;
        let mut changed = Vec::with_capacity(rows.len());
        for row in &rows {
            let article = change(article(row)?)?;
            write(&mut tx, &article).await?;
            changed.push(article);
        }
        tx.commit().await.map_err(StoreError::from)?;
        Ok(changed)
    }

    /// Whether another article of the same owner has this number.
    pub async fn article_number_taken(
        &self,
        number: &str,
        by_another_than: Uuid,
    ) -> Result<bool, StoreError> {
        let taken = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM articles AS own JOIN articles AS other USING (owner)
                            WHERE own.id = $2 AND other.article_number = $1 AND other.id <> $2)",
        )
        .bind(number)
        .bind(by_another_than)
        .fetch_one(&self.pool)
        .await?;
        Ok(taken)
    }

    /// Removes articles of an owner; returns how many there were.
    pub async fn remove_articles(&self, ids: &[Uuid], owner: Option<&str>) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM articles WHERE id IN (SELECT id FROM articles WHERE id = ANY($1)
                                                AND ($2::text IS NULL OR owner = $2) ORDER BY id FOR UPDATE)",
        )
        .bind(ids)
        .bind(owner)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// Counts over an owner's articles, or everybody's.
    pub async fn article_stats(&self, owner: Option<&str>) -> Result<ArticleStats, StoreError> {
        let row = sqlx::query(
            "SELECT count(*), count(*) FILTER (WHERE image_url IS NOT NULL OR (image_key IS NOT NULL AND job_id IS NOT NULL)),
                    count(*) FILTER (WHERE verified), count(*) FILTER (WHERE published)
             FROM articles WHERE $1::text IS NULL OR owner = $1",
        )
        .bind(owner)
        .fetch_one(&self.pool)
        .await?;
        let categories = sqlx::query_as(
            "SELECT category, count(*) FROM articles WHERE category IS NOT NULL AND ($2::text IS NULL OR owner = $2)
             GROUP BY category ORDER BY count(*) DESC, category LIMIT $1",
        )
        .bind(CATEGORIES)
        .bind(owner)
        .fetch_all(&self.pool)
        .await?;
        Ok(ArticleStats {
            total: row.try_get(0)?,
            with_images: row.try_get(1)?,
            verified: row.try_get(2)?,
            published: row.try_get(3)?,
            categories,
        })
    }

    /// Changes an owner's articles by the rows of a spreadsheet, in one transaction; of rows with one number the last
    /// wins.
    pub async fn update_articles(
        &self,
        owner: &str,
        rows: &[ArticleUpdate],
    ) -> Result<ArticlesUpdated, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "CREATE TEMPORARY TABLE article_updates (line int, article_number text, fields jsonb) ON COMMIT DROP",
        )
        .execute(&mut *tx)
        .await?;
        let mut copy = Copy::into(&mut tx, "article_updates").await?;
        for (line, row) in rows.iter().enumerate() {
            let line = line as i32;
            copy.row(&[(&line, Type::INT4), (&row.article_number, Type::TEXT), (&row.fields, Type::JSONB)])
                .await?;
        }
        copy.finish().await?;
        // Locked in one order, whatever else changes articles.
        let matched: i64 = sqlx::query_scalar(
            "WITH wanted AS (SELECT a.article_number FROM articles a
                             WHERE a.owner = $1 AND a.article_number IN (SELECT article_number FROM article_updates)
                             ORDER BY a.id FOR UPDATE)
             SELECT count(*) FROM article_updates JOIN wanted USING (article_number)",
        )
        .bind(owner)
        .fetch_one(&mut *tx)
        .await?;
        let done = sqlx::query(
            "UPDATE articles a SET
                 product_name = coalesce(f.fields->>'productName', a.product_name),
                 description = coalesce(f.fields->>'description', a.description),
                 price = coalesce((f.fields->>'price')::float8, a.price),
                 tiers = coalesce(f.fields->'tieredPrices', a.tiers),
                 tiered_prices_text = coalesce(f.fields->>'tieredPricesText', a.tiered_prices_text),
                 price_type = CASE WHEN coalesce(f.fields->'tieredPrices', a.tiers) <> '[]' THEN 'tiered'
                                   WHEN (f.fields->>'price')::float8 > 0 THEN 'normal' ELSE a.price_type END,
                 currency = coalesce(f.fields->>'currency', a.currency),
                 image_url = coalesce(f.fields->>'imageUrl', a.image_url),
                 thumbnail_url = coalesce(f.fields->>'thumbnailUrl', a.thumbnail_url),
                 ean = coalesce(f.fields->>'ean', a.ean),
                 category = coalesce(f.fields->>'category', a.category),
                 manufacturer = coalesce(f.fields->>'manufacturer', a.manufacturer),
                 source_url = coalesce(f.fields->>'sourceUrl', a.source_url),
                 verified = coalesce((f.fields->>'verified')::boolean, a.verified),
                 published = coalesce((f.fields->>'published')::boolean, a.published),
                 updated_at = now()
             FROM (SELECT DISTINCT ON (article_number) article_number, fields FROM article_updates
                   ORDER BY article_number, line DESC) f
             WHERE a.owner = $1 AND a.article_number = f.article_number AND f.fields <> '{}'",
        )
        .bind(owner)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(ArticlesUpdated { matched, updated: done.rows_affected() as i64 })
    }
}

fn push_filter(builder: &mut QueryBuilder<Postgres>, owner: Option<&str>, query: &ArticleQuery) {
    builder.push(" WHERE true");
    if let Some(owner) = owner {
        builder.push(" AND owner = ").push_bind(owner.to_owned());
    }
    if let Some(search) = &query.search {
        let pattern = format!("%{}%", search.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_"));
        builder
            .push(" AND concat_ws(' ', article_number, product_name, description, ean, manufacturer) ILIKE ");
        builder.push_bind(pattern);
    }
    if let Some(category) = &query.category {
        builder.push(" AND category = ").push_bind(category.clone());
    }
    if let Some(verified) = query.verified {
        builder.push(" AND verified = ").push_bind(verified);
    }
    if let Some(published) = query.published {
        builder.push(" AND published = ").push_bind(published);
    }
}

/// Everything of an article but its id, its job and its objects.
async fn write(tx: &mut PgConnection, article: &Article) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE articles SET article_number = $2, product_name = $3, description = $4, price = $5, price_type = $6,
                tiers = $7, tiered_prices_text = $8, currency = $9, image_url = $10, thumbnail_url = $11, ean = $12,
                category = $13, manufacturer = $14, source_url = $15, ocr_confidence = $16, verified = $17,
                published = $18, created_at = $19, updated_at = $20
         WHERE id = $1",
    )
    .bind(article.id)
    .bind(&article.article_number)
    .bind(&article.product_name)
    .bind(&article.description)
    .bind(article.price)
    .bind(article.price_type.word())
    .bind(json!(article.tiers))
    .bind(&article.tiered_prices_text)
    .bind(&article.currency)
    .bind(&article.image_url)
    .bind(&article.thumbnail_url)
    .bind(&article.ean)
    .bind(&article.category)
    .bind(&article.manufacturer)
    .bind(&article.source_url)
    .bind(article.ocr_confidence)
    .bind(article.verified)
    .bind(article.published)
    .bind(article.created_at)
    .bind(article.updated_at)
    .execute(tx)
    .await?;
    Ok(())
}

fn article(row: &PgRow) -> Result<Article, StoreError> {
    let price_type: String = row.try_get("price_type")?;
    Ok(Article {
        id: row.try_get("id")?,
        owner: row.try_get("owner")?,
        article_number: row.try_get("article_number")?,
        product_name: row.try_get("product_name")?,
        description: row.try_get("description")?,
        price: row.try_get("price")?,
        price_type: PriceType::from_word(&price_type).ok_or_else(|| StoreError::Corrupt {
            table: "articles",
            detail: format!("price type {price_type:?}"),
        })?,
        tiers: row.try_get::<Json<Vec<Tier>>, _>("tiers")?.0,
        tiered_prices_text: row.try_get("tiered_prices_text")?,
        currency: row.try_get("currency")?,
        image_key: row.try_get("image_key")?,
        thumbnail_key: row.try_get("thumbnail_key")?,
        image_url: row.try_get("image_url")?,
        thumbnail_url: row.try_get("thumbnail_url")?,
        ean: row.try_get("ean")?,
        category: row.try_get("category")?,
        manufacturer: row.try_get("manufacturer")?,
        source_url: row.try_get("source_url")?,
        job_id: row.try_get("job_id")?,
        ocr_confidence: row.try_get("ocr_confidence")?,
        verified: row.try_get("verified")?,
        published: row.try_get("published")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
