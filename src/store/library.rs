//! The library of labels: the values that each one shows, whoever made it. A label of a job gets its row here in the
//! transaction that stores the label ([`record`]); from then on the two go their own ways: changing or removing one in
//! the library leaves the job's results alone, and removing the job leaves the library's label, whose picture is drawn
//! from its values whenever it is asked for. So no label here ever depends on an object that may be gone.

use bytes::Bytes;
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{
    Store, StoreError,
    jobs::{from_word, word},
};
use crate::{event::Timestamp, product::Tier};

/// How much of a product a label shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateType {
    Minimal,
    Standard,
    Extended,
    Custom,
}

/// Where a label's values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelSource {
    Screenshot,
    Manual,
    Import,
}

/// A label of the library.
#[derive(Clone, Debug, PartialEq)]
pub struct LibraryLabel {
    pub id: Uuid,
    /// Whose it is; a job's label is its job's owner's.
    pub owner: String,
    /// The job that made it, while there is that job.
    pub job_id: Option<Uuid>,
    pub article_number: String,
    pub product_name: String,
    pub description: Option<String>,
    pub price: Option<f64>,
    /// Such as `EUR`.
    pub currency: String,
    pub unit: Option<String>,
    pub tiers: Vec<Tier>,
    pub ean: Option<String>,
    /// The template that draws it; one that is gone is stood in for by its type's own.
    pub template_id: Option<String>,
    pub template_type: TemplateType,
    pub category: Option<String>,
    pub tags: Vec<String>,
    pub source: LabelSource,
    pub shop_url: Option<String>,
    /// A picture of the product elsewhere.
    pub image_url: Option<String>,
    /// The page's wish for a QR code.
    pub qr_code: Option<Value>,
    /// Whether it came with a picture of its own.
    pub has_picture: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A picture that a label came with, instead of one that is drawn.
#[derive(Clone, Debug)]
pub struct Picture {
    pub bytes: Bytes,
    /// `image/png` or `image/jpeg`.
    pub content_type: String,
}

/// What labels are put in order by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelOrder {
    #[default]
    CreatedAt,
    UpdatedAt,
    ArticleNumber,
    ProductName,
    Category,
    Price,
}

impl LabelOrder {
    fn column(self) -> &'static str {
        match self {
            LabelOrder::CreatedAt => "created_at",
            LabelOrder::UpdatedAt => "updated_at",
            LabelOrder::ArticleNumber => "lower(article_number)",
            LabelOrder::ProductName => "lower(product_name)",
            LabelOrder::Category => "lower(coalesce(category, ''))",
            LabelOrder::Price => "coalesce(price, 0)",
        }
    }
}

/// Which labels are wanted.
#[derive(Clone, Debug, Default)]
pub struct LabelQuery {
    /// A part of the number, the name, the description or the EAN, in any case.
    pub search: Option<String>,
    pub category: Option<String>,
    /// At least one of these.
    pub tags: Vec<String>,
    pub source: Option<LabelSource>,
    pub order: LabelOrder,
    pub ascending: bool,
    pub limit: i64,
    pub offset: i64,
}

/// Counts over the library.
#[derive(Clone, Debug)]
pub struct LabelStats {
    pub total: i64,
    pub this_month: i64,
    pub categories: Vec<(String, i64)>,
    pub sources: Vec<(String, i64)>,
    pub template_types: Vec<(String, i64)>,
}

/// Categories that are counted one by one.
const MAX_CATEGORIES: i64 = 1000;

const COLUMNS: &str =
    "id, owner, job_id, article_number, product_name, description, price, currency, unit, tiers, ean,
     template_id, template_type, category, tags, source, shop_url, image_url, qr_code,
     picture IS NOT NULL AS has_picture, created_at, updated_at";

const WANTED: &str = "WHERE ($1::text IS NULL OR article_number ILIKE $1 OR product_name ILIKE $1
            OR description ILIKE $1 OR ean ILIKE $1)
       AND ($2::text IS NULL OR category = $2) AND ($3::text[] = '{}' OR tags && $3)
       AND ($4::text IS NULL OR source = $4) AND ($5::text IS NULL OR owner = $5)";

/// Of a row that `$2` may see: an owner, or nobody in particular for who sees everybody's.
const OWN: &str = "($2::text IS NULL OR owner = $2)";

/// Enters a job's label, which the same transaction has just written, into the library.
pub(super) async fn record(tx: &mut PgConnection, label: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO library_labels (id, owner, job_id, article_number, product_name, description, price, currency, tiers,
                                     ean, template_id, template_type, category, source, shop_url, created_at,
                                     updated_at)
         SELECT label.id, jobs.owner, label.job_id, label.article_number, coalesce(label.facts->>'name', ''),
                label.facts->>'description', (label.facts->>'price')::float8,
                coalesce(label.facts->>'currency', 'EUR'), coalesce(label.facts->'tiers', '[]'), label.facts->>'ean',
                label.template_id,
                CASE label.template_id WHEN 'compact-label' THEN 'minimal' WHEN 'standard-label' THEN 'standard'
                                       WHEN 'detailed-label' THEN 'extended' ELSE 'custom' END,
                (SELECT category FROM products WHERE products.article_number = label.article_number), 'screenshot',
                screenshot.product_url, label.created_at, label.created_at
         FROM labels label
              JOIN jobs ON jobs.id = label.job_id
              LEFT JOIN matches ON matches.id = label.match_id
              LEFT JOIN ocr_results reading ON reading.id = matches.ocr_result_id
              LEFT JOIN screenshots screenshot ON screenshot.id = reading.screenshot_id
         WHERE label.id = $1 AND label.error IS NULL
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(label)
    .execute(tx)
    .await
    .map(drop)
}

impl Store {
    /// A page of an owner's labels, or of everybody's, and how many fit the query in all.
    pub async fn library(
        &self,
        owner: Option<&str>,
        query: &LabelQuery,
    ) -> Result<(Vec<LibraryLabel>, i64), StoreError> {
        let search = query.search.as_deref().map(contains);
        let source = query.source.map(word).transpose()?;
        let total =
            sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM library_labels {WANTED}")))
                .bind(&search)
                .bind(&query.category)
                .bind(&query.tags)
                .bind(&source)
                .bind(owner)
                .fetch_one(&self.pool)
                .await?;
        let direction = if query.ascending { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT {COLUMNS} FROM library_labels {WANTED} ORDER BY {} {direction}, id {direction} LIMIT $6 OFFSET $7",
            query.order.column()
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(&search)
            .bind(&query.category)
            .bind(&query.tags)
            .bind(&source)
            .bind(owner)
            .bind(query.limit)
            .bind(query.offset)
            .fetch_all(&self.pool)
            .await?;
        Ok((rows.iter().map(label).collect::<Result<_, _>>()?, total))
    }

    /// One label, if it is this owner's; for nobody in particular, anybody's.
    pub async fn library_label(
        &self,
        id: Uuid,
        owner: Option<&str>,
    ) -> Result<Option<LibraryLabel>, StoreError> {
        let sql = AssertSqlSafe(format!("SELECT {COLUMNS} FROM library_labels WHERE id = $1 AND {OWN}"));
        let row = sqlx::query(sql).bind(id).bind(owner).fetch_optional(&self.pool).await?;
        row.as_ref().map(label).transpose()
    }

    /// The labels with these ids, in the order of the ids, one for each time that an id is named; those that are not
    /// there, or not this owner's, are left out.
    pub async fn library_labels(
        &self,
        ids: &[Uuid],
        owner: Option<&str>,
    ) -> Result<Vec<LibraryLabel>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM UNNEST($1::uuid[]) WITH ORDINALITY AS wanted (wanted_id, place)
             JOIN library_labels ON id = wanted_id WHERE {OWN} ORDER BY place"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(ids).bind(owner).fetch_all(&self.pool).await?;
        rows.iter().map(label).collect()
    }

    /// Those of the ids that no label of this owner has.
    pub async fn unknown_library_labels(
        &self,
        ids: &[Uuid],
        owner: Option<&str>,
    ) -> Result<Vec<Uuid>, StoreError> {
        let unknown = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT wanted FROM UNNEST($1::uuid[]) AS given (wanted)
             WHERE NOT EXISTS (SELECT FROM library_labels WHERE id = wanted AND {OWN})",
        )))
        .bind(ids)
        .bind(owner)
        .fetch_all(&self.pool)
        .await?;
        Ok(unknown)
    }

    /// The picture that a label came with.
    pub async fn library_picture(&self, id: Uuid) -> Result<Option<Picture>, StoreError> {
        let row = sqlx::query(
            "SELECT picture, picture_type FROM library_labels WHERE id = $1 AND picture IS NOT NULL",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let bytes: Vec<u8> = row.try_get("picture")?;
            Ok(Picture { bytes: bytes.into(), content_type: row.try_get("picture_type")? })
        })
        .transpose()
    }

    /// Adds a label to the library.
    pub async fn add_to_library(
        &self,
        label: &LibraryLabel,
        picture: Option<&Picture>,
    ) -> Result<(), StoreError> {
        write(&mut *self.pool.acquire().await?, label, picture).await
    }

    /// Adds a copy of a label, with its picture, for the same owner; `None` when there is no such label.
    pub async fn duplicate_in_library(
        &self,
        id: Uuid,
        owner: Option<&str>,
    ) -> Result<Option<LibraryLabel>, StoreError> {
        let copied = Uuid::now_v7();
        let sql = format!(
            "INSERT INTO library_labels AS copied (id, owner, article_number, product_name, description, price, currency, unit,
                                         tiers, ean, template_id, template_type, category, tags, source, shop_url,
                                         image_url, qr_code, picture, picture_type, created_at, updated_at)
             SELECT $3, owner, article_number, product_name, description, price, currency, unit, tiers, ean, template_id,
                    template_type, category, tags, source, shop_url, image_url, qr_code, picture, picture_type, $4, $4
             FROM library_labels WHERE id = $1 AND {OWN}
             RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(id)
            .bind(owner)
            .bind(copied)
            .bind(Utc::now())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(label).transpose()
    }

    /// Changes a label; a new picture takes the place of the old one. `None` when there is no such label.
    pub async fn change_in_library(
        &self,
        id: Uuid,
        owner: Option<&str>,
        change: impl FnOnce(&mut LibraryLabel) + Send,
        picture: Option<&Picture>,
    ) -> Result<Option<LibraryLabel>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let sql =
            AssertSqlSafe(format!("SELECT {COLUMNS} FROM library_labels WHERE id = $1 AND {OWN} FOR UPDATE"));
        let row = sqlx::query(sql).bind(id).bind(owner).fetch_optional(&mut *tx).await?;
        let Some(row) = row else { return Ok(None) };
        let mut label = label(&row)?;
        change(&mut label);
        label.updated_at = Utc::now();
        label.has_picture |= picture.is_some();
        write(&mut tx, &label, picture).await?;
        tx.commit().await?;
        Ok(Some(label))
    }

    /// Removes labels of an owner from the library; returns those that were there.
    pub async fn remove_from_library(
        &self,
        ids: &[Uuid],
        owner: Option<&str>,
    ) -> Result<Vec<Uuid>, StoreError> {
        let sql = format!("DELETE FROM library_labels WHERE id = ANY($1) AND {OWN} RETURNING id");
        let removed =
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(ids).bind(owner).fetch_all(&self.pool).await?;
        Ok(removed)
    }

    /// Counts over an owner's labels, or everybody's.
    pub async fn library_stats(&self, owner: Option<&str>) -> Result<LabelStats, StoreError> {
        let (total, this_month) = sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE created_at >= date_trunc('month', now())) FROM library_labels
             WHERE $1::text IS NULL OR owner = $1",
        )
        .bind(owner)
        .fetch_one(&self.pool)
        .await?;
        let categories = sqlx::query_as(
            "SELECT category, count(*) FROM library_labels
             WHERE category IS NOT NULL AND ($2::text IS NULL OR owner = $2) GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $1",
        )
        .bind(MAX_CATEGORIES)
        .bind(owner)
        .fetch_all(&self.pool)
        .await?;
        let by = |column: &str| {
            AssertSqlSafe(format!(
                "SELECT {column}, count(*) FROM library_labels WHERE $1::text IS NULL OR owner = $1
                 GROUP BY 1 ORDER BY 2 DESC, 1"
            ))
        };
        let sources = sqlx::query_as(by("source")).bind(owner).fetch_all(&self.pool).await?;
        let template_types = sqlx::query_as(by("template_type")).bind(owner).fetch_all(&self.pool).await?;
        Ok(LabelStats { total, this_month, categories, sources, template_types })
    }
}

/// Writes all of a label; without a picture the stored one stays.
async fn write(
    connection: &mut PgConnection,
    label: &LibraryLabel,
    picture: Option<&Picture>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO library_labels (id, owner, job_id, article_number, product_name, description, price, currency, unit,
                                     tiers, ean, template_id, template_type, category, tags, source, shop_url,
                                     image_url, qr_code, picture, picture_type, created_at, updated_at)
         VALUES ($1, $23, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
         ON CONFLICT (id) DO UPDATE SET
             article_number = $3, product_name = $4, description = $5, price = $6, currency = $7, unit = $8,
             tiers = $9, ean = $10, template_id = $11, template_type = $12, category = $13, tags = $14, source = $15,
             shop_url = $16, image_url = $17, qr_code = $18, picture = coalesce($19, library_labels.picture),
             picture_type = coalesce($20, library_labels.picture_type), updated_at = $22",
    )
    .bind(label.id)
    .bind(label.job_id)
    .bind(&label.article_number)
    .bind(&label.product_name)
    .bind(&label.description)
    .bind(label.price)
    .bind(&label.currency)
    .bind(&label.unit)
    .bind(Json(&label.tiers))
    .bind(&label.ean)
    .bind(&label.template_id)
    .bind(word(label.template_type)?)
    .bind(&label.category)
    .bind(&label.tags)
    .bind(word(label.source)?)
    .bind(&label.shop_url)
    .bind(&label.image_url)
    .bind(&label.qr_code)
    .bind(picture.map(|picture| &*picture.bytes))
    .bind(picture.map(|picture| &picture.content_type))
    .bind(label.created_at)
    .bind(label.updated_at)
    .bind(&label.owner)
    .execute(connection)
    .await?;
    Ok(())
}

fn label(row: &PgRow) -> Result<LibraryLabel, StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt { table: "library_labels", detail };
    Ok(LibraryLabel {
        id: row.try_get("id")?,
        owner: row.try_get("owner")?,
        job_id: row.try_get("job_id")?,
        article_number: row.try_get("article_number")?,
        product_name: row.try_get("product_name")?,
        description: row.try_get("description")?,
        price: row.try_get("price")?,
        currency: row.try_get("currency")?,
        unit: row.try_get("unit")?,
        tiers: row.try_get::<Json<Vec<Tier>>, _>("tiers")?.0,
        ean: row.try_get("ean")?,
        template_id: row.try_get("template_id")?,
        template_type: from_word(&row.try_get::<String, _>("template_type")?).map_err(corrupt)?,
        category: row.try_get("category")?,
        tags: row.try_get("tags")?,
        source: from_word(&row.try_get::<String, _>("source")?).map_err(corrupt)?,
        shop_url: row.try_get("shop_url")?,
        image_url: row.try_get("image_url")?,
        qr_code: row.try_get("qr_code")?,
        has_picture: row.try_get("has_picture")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// The pattern of all texts that hold this one.
fn contains(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
    format!("%{escaped}%")
}

/// What a label takes over from a known article.
#[derive(Clone, Debug)]
pub struct ArticleToLabel {
    pub article_number: String,
    pub name: String,
    pub description: Option<String>,
    pub price: Option<f64>,
    pub currency: String,
    pub tiers: Vec<Tier>,
    pub ean: Option<String>,
    pub category: Option<String>,
    /// The product's page.
    pub source_url: Option<String>,
}

impl Store {
    /// An owner's article with this id or article number, else the known product of a price list.
    pub async fn article_to_label(
        &self,
        name: &str,
        owner: Option<&str>,
    ) -> Result<Option<ArticleToLabel>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM (
                 SELECT id, article_number, product_name AS name, description, nullif(price, 0) AS price, currency, tiers,
                        ean, category, nullif(source_url, '') AS source_url, 0 AS rank FROM articles
                 WHERE (id = $1 OR article_number = $2) AND ($3::text IS NULL OR owner = $3)
                 UNION ALL
                 SELECT id, article_number, name, description, price, currency, tiers, ean, category, NULL, 1 FROM products
                 WHERE id = $1 OR article_number = $2
             ) known ORDER BY id = $1 DESC NULLS LAST, rank LIMIT 1",
        )
        .bind(name.parse::<Uuid>().ok())
        .bind(name)
        .bind(owner)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(ArticleToLabel {
                article_number: row.try_get("article_number")?,
                name: row.try_get("name")?,
                description: row.try_get("description")?,
                price: row.try_get("price")?,
                currency: row.try_get("currency")?,
                tiers: row.try_get::<Json<Vec<Tier>>, _>("tiers")?.0,
                ean: row.try_get("ean")?,
                category: row.try_get("category")?,
                source_url: row.try_get("source_url")?,
            })
        })
        .transpose()
    }
}
