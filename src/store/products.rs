//! Known products and the price lists that they come from.

use postgres_types::Type;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Store, StoreError, copy::Copy};
use crate::{event::Timestamp, job::JobId, product::price_list::ListedProduct};

/// Article numbers that the statistics name at the most.
const NAMED: i64 = 10_000;
/// Categories that the statistics name at the most.
const CATEGORIES: i64 = 200;
/// Rows of one statement, when rows are not copied.
const UNNESTED: usize = 1000;

/// One product of a price list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedRow {
    pub article_number: String,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub price: Option<f64>,
    #[serde(default)]
    pub currency: Option<String>,
    /// `[{"minQuantity":10,"price":4.5}]`
    #[serde(default)]
    pub tiers: Value,
    #[serde(default)]
    pub ean: Option<String>,
    #[serde(default)]
    pub category: Option<String>,
    #[serde(default)]
    pub additional_info: Option<String>,
    /// The list's other columns, by their headings.
    #[serde(default)]
    pub custom_fields: Value,
}

impl From<ListedProduct> for ListedRow {
    fn from(product: ListedProduct) -> ListedRow {
        let facts = product.facts;
        let article_number = facts.article_number.unwrap_or_default();
        ListedRow {
            name: facts.name.unwrap_or_else(|| article_number.clone()),
            article_number,
            description: facts.description,
            price: facts.price,
            currency: facts.currency,
            tiers: json!(facts.tiers),
            ean: facts.ean,
            category: product.category,
            additional_info: product.additional_info,
            custom_fields: json!(product.custom_fields),
        }
    }
}

/// A price list to be stored.
#[derive(Clone, Debug)]
pub struct NewImport {
    pub file_name: String,
    /// Bytes.
    pub file_size: i64,
    pub headers: Vec<String>,
    pub products: Vec<ListedRow>,
    /// `[{"row":3,"message":"…"}]`
    pub errors: Value,
    /// All of them, of which `errors` are the first.
    pub error_count: i32,
}

/// A stored price list.
#[derive(Clone, Debug)]
pub struct Import {
    pub id: Uuid,
    pub products: Vec<ListedRow>,
}

/// What comes of a file while it is read.
#[derive(Debug)]
pub enum Portion {
    Rows(Vec<ListedRow>),
    /// The file was read to its end.
    End {
        headers: Vec<String>,
        errors: Value,
        error_count: i32,
    },
}

/// What became of the rows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    pub id: Uuid,
    pub rows: i64,
    /// Of `rows`, those whose article number was not known.
    pub new: i64,
}

/// Counts over the known products.
#[derive(Clone, Debug)]
pub struct ProductStats {
    pub total: i64,
    /// In order, as many as are named.
    pub article_numbers: Vec<String>,
    /// With how many products each, the largest first.
    pub categories: Vec<(String, i64)>,
    pub last_import: Option<LastImport>,
}

/// The newest price list.
#[derive(Clone, Debug)]
pub struct LastImport {
    pub file_name: String,
    pub rows: i32,
    pub errors: i32,
    pub at: Timestamp,
}

/// How rows get into the table; all but COPY are there to be measured beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportWay {
    Copy,
    /// Arrays of 1,000 rows a statement.
    Unnest,
    /// A statement a row, in one transaction.
    SingleInserts,
}

impl Store {
    /// Stores a price list that comes with a job and makes its products known, in one transaction; of rows with one
    /// article number the last wins.
    pub async fn import(&self, new: NewImport) -> Result<Uuid, StoreError> {
        let id = Uuid::now_v7();
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO excel_imports (id, file_name, file_size, row_count, headers, products, errors, error_count)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(id)
        .bind(&new.file_name)
        .bind(new.file_size)
        .bind(new.products.len() as i32)
        .bind(Json(&new.headers))
        .bind(Json(&new.products))
        .bind(&new.errors)
        .bind(new.error_count)
        .execute(&mut *tx)
        .await?;
        incoming(&mut tx).await?;
        let mut copy = Copy::into(&mut tx, "incoming").await?;
        for (line, product) in new.products.iter().enumerate() {
            put(&mut copy, line, product).await?;
        }
        copy.finish().await?;
        merge(&mut tx, id).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Removes a price list that came with no job. Its products stay known; `instead` is the job that came with the same
    /// list.
    pub async fn discard_import(&self, id: Uuid, instead: Option<JobId>) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "UPDATE products SET import_id = (SELECT import_id FROM jobs WHERE id = $2) WHERE import_id = $1",
        )
        .bind(id)
        .bind(instead.map(|job| job.0))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM excel_imports WHERE id = $1 AND NOT EXISTS (SELECT FROM jobs WHERE import_id = $1)",
        )
        .bind(id)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Makes the products of a file known while it is read, in one transaction that holds no more of it in memory than
    /// the portion at hand. `None`, and nothing is changed, when its reader stops before the end.
    pub async fn import_portions(
        &self,
        file_name: &str,
        file_size: i64,
        mut portions: mpsc::Receiver<Portion>,
    ) -> Result<Option<Imported>, StoreError> {
        let id = Uuid::now_v7();
        let mut tx = self.pool.begin().await?;
        incoming(&mut tx).await?;
        let mut copy = Copy::into(&mut tx, "incoming").await?;
        let mut line = 0;
        let end = loop {
            match portions.recv().await {
                Some(Portion::Rows(rows)) => {
                    for product in &rows {
                        put(&mut copy, line, product).await?;
                        line += 1;
                    }
                }
                Some(Portion::End { headers, errors, error_count }) => {
                    break Some((headers, errors, error_count));
                }
                None => break None,
            }
        };
        copy.finish().await?;
        let Some((headers, errors, error_count)) = end else {
            tx.rollback().await?;
            return Ok(None);
        };
        sqlx::query(
            "INSERT INTO excel_imports (id, file_name, file_size, row_count, headers, products, errors, error_count)
             VALUES ($1, $2, $3, $4, $5, '[]', $6, $7)",
        )
        .bind(id)
        .bind(file_name)
        .bind(file_size)
        .bind(line as i32)
        .bind(Json(&headers))
        .bind(&errors)
        .bind(error_count)
        .execute(&mut *tx)
        .await?;
        let new = merge(&mut tx, id).await?;
        tx.commit().await?;
        Ok(Some(Imported { id, rows: line as i64, new }))
    }

    /// A stored price list.
    pub async fn stored_import(&self, id: Uuid) -> Result<Option<Import>, StoreError> {
        let products: Option<Json<Vec<ListedRow>>> =
            sqlx::query_scalar("SELECT products FROM excel_imports WHERE id = $1")
                .bind(id)
                .fetch_optional(&self.pool)
                .await?;
        Ok(products.map(|products| Import { id, products: products.0 }))
    }

    /// All known products, by article number.
    pub async fn known_products(&self) -> Result<Vec<ListedRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM products ORDER BY article_number").fetch_all(&self.pool).await?;
        rows.iter().map(listed).collect()
    }

    /// Known products behind an article number, in order.
    pub async fn products_after(&self, after: &str, limit: i64) -> Result<Vec<ListedRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM products WHERE article_number > $1 ORDER BY article_number LIMIT $2")
                .bind(after)
                .bind(limit)
                .fetch_all(&self.pool)
                .await?;
        rows.iter().map(listed).collect()
    }

    /// Changes whenever the known products do.
    pub async fn products_version(&self) -> Result<String, StoreError> {
        let version: String =
            sqlx::query_scalar("SELECT count(*) || ' ' || coalesce(max(updated_at)::text, '') FROM products")
                .fetch_one(&self.pool)
                .await?;
        Ok(version)
    }

    /// One known product.
    pub async fn product(&self, article_number: &str) -> Result<Option<ListedRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM products WHERE article_number = $1")
            .bind(article_number)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(listed).transpose()
    }

    /// Adds a product; `false` when its article number is known already.
    pub async fn add_product(&self, product: &ListedRow) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let added = insert(&mut connection, product, "NOTHING").await?;
        Ok(added > 0)
    }

    /// Changes a product that is known; `None` when it is not.
    pub async fn change_product(
        &self,
        article_number: &str,
        change: impl FnOnce(ListedRow) -> ListedRow,
    ) -> Result<Option<ListedRow>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query("SELECT * FROM products WHERE article_number = $1 FOR UPDATE")
            .bind(article_number)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let changed = ListedRow { article_number: article_number.to_owned(), ..change(listed(&row)?) };
        insert(
            &mut tx,
            &changed,
            "UPDATE SET name = excluded.name, description = excluded.description, price = excluded.price,
                    currency = excluded.currency, tiers = excluded.tiers, ean = excluded.ean,
                    category = excluded.category, additional_info = excluded.additional_info,
                    custom_fields = excluded.custom_fields, updated_at = clock_timestamp()",
        )
        .await?;
        tx.commit().await?;
        Ok(Some(changed))
    }

    /// Forgets a product; `false` when it was not known.
    pub async fn remove_product(&self, article_number: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM products WHERE article_number = $1")
            .bind(article_number)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Forgets all known products; returns how many there were. Price lists that came with jobs stay.
    pub async fn clear_products(&self) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("LOCK TABLE products IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
        let done = sqlx::query("DELETE FROM products").execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    /// Counts over the known products.
    pub async fn product_stats(&self) -> Result<ProductStats, StoreError> {
        let total = sqlx::query_scalar("SELECT count(*) FROM products").fetch_one(&self.pool).await?;
        let article_numbers =
            sqlx::query_scalar("SELECT article_number FROM products ORDER BY article_number LIMIT $1")
                .bind(NAMED)
                .fetch_all(&self.pool)
                .await?;
        let categories = sqlx::query_as(
            "SELECT category, count(*) FROM products WHERE category IS NOT NULL
             GROUP BY category ORDER BY count(*) DESC, category LIMIT $1",
        )
        .bind(CATEGORIES)
        .fetch_all(&self.pool)
        .await?;
        let last = sqlx::query(
            "SELECT file_name, row_count, error_count, uploaded_at FROM excel_imports
             ORDER BY uploaded_at DESC LIMIT 1",
        )
        .fetch_optional(&self.pool)
        .await?;
        let last_import = last
            .map(|row| {
                Ok::<_, sqlx::Error>(LastImport {
                    file_name: row.try_get(0)?,
                    rows: row.try_get(1)?,
                    errors: row.try_get(2)?,
                    at: row.try_get(3)?,
                })
            })
            .transpose()?;
        Ok(ProductStats { total, article_numbers, categories, last_import })
    }

    /// The quantities of tier prices, ascending, and the headings of other columns that any known product has, as many
    /// as asked for.
    pub async fn product_columns(
        &self,
        most_tiers: i64,
        most_custom: i64,
    ) -> Result<(Vec<i32>, Vec<String>), StoreError> {
        let tiers = sqlx::query_scalar(
            "SELECT DISTINCT (tier->>'minQuantity')::int AS quantity FROM products, jsonb_array_elements(tiers) tier
             WHERE (tier->>'minQuantity')::numeric < 2147483648 ORDER BY quantity LIMIT $1",
        )
        .bind(most_tiers)
        .fetch_all(&self.pool)
        .await?;
        let custom = sqlx::query_scalar(
            "SELECT DISTINCT jsonb_object_keys(custom_fields) AS heading FROM products ORDER BY heading LIMIT $1",
        )
        .bind(most_custom)
        .fetch_all(&self.pool)
        .await?;
        Ok((tiers, custom))
    }

    /// Makes products known in one of several ways, for a measurement: in one transaction, as an import does.
    pub async fn import_by(&self, way: ImportWay, products: &[ListedRow]) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        match way {
            ImportWay::Copy => {
                incoming(&mut tx).await?;
                let mut copy = Copy::into(&mut tx, "incoming").await?;
                for (line, product) in products.iter().enumerate() {
                    put(&mut copy, line, product).await?;
                }
                copy.finish().await?;
                merge_as(&mut tx, None).await?;
            }
            ImportWay::Unnest => {
                for portion in products.chunks(UNNESTED) {
                    unnest(&mut tx, portion).await?;
                }
            }
            ImportWay::SingleInserts => {
                for product in products {
                    insert(&mut tx, product, KEEP_NEWEST).await?;
                }
            }
        }
        tx.commit().await?;
        Ok(())
    }
}

/// What an import does with a product that is known already.
const KEEP_NEWEST: &str =
    "UPDATE SET name = excluded.name, description = excluded.description, price = excluded.price,
            currency = excluded.currency, tiers = excluded.tiers, ean = excluded.ean, category = excluded.category,
            additional_info = excluded.additional_info, custom_fields = excluded.custom_fields,
            import_id = excluded.import_id, updated_at = now()";

fn listed(row: &PgRow) -> Result<ListedRow, StoreError> {
    Ok(ListedRow {
        article_number: row.try_get("article_number")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        price: row.try_get("price")?,
        currency: row.try_get("currency")?,
        tiers: row.try_get("tiers")?,
        ean: row.try_get("ean")?,
        category: row.try_get("category")?,
        additional_info: row.try_get("additional_info")?,
        custom_fields: row.try_get("custom_fields")?,
    })
}

fn list_or_empty(tiers: &Value) -> Value {
    if tiers.is_array() { tiers.clone() } else { json!([]) }
}

fn object_or_empty(fields: &Value) -> Value {
    if fields.is_object() { fields.clone() } else { json!({}) }
}

/// The table that rows are copied into before they are merged with what is known.
async fn incoming(tx: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query(
        "CREATE TEMPORARY TABLE incoming (line int, article_number text, name text, description text, price float8,
                                          currency text, tiers jsonb, ean text, category text, additional_info text,
                                          custom_fields jsonb) ON COMMIT DROP",
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn put(copy: &mut Copy<'_>, line: usize, product: &ListedRow) -> Result<(), StoreError> {
    let line = line as i32;
    let (tiers, custom_fields) = (list_or_empty(&product.tiers), object_or_empty(&product.custom_fields));
    copy.row(&[
        (&line, Type::INT4),
        (&product.article_number, Type::TEXT),
        (&product.name, Type::TEXT),
        (&product.description, Type::TEXT),
        (&product.price, Type::FLOAT8),
        (&product.currency, Type::TEXT),
        (&tiers, Type::JSONB),
        (&product.ean, Type::TEXT),
        (&product.category, Type::TEXT),
        (&product.additional_info, Type::TEXT),
        (&custom_fields, Type::JSONB),
    ])
    .await
}

async fn merge(tx: &mut PgConnection, import: Uuid) -> Result<i64, StoreError> {
    merge_as(tx, Some(import)).await
}

/// Makes the incoming rows known; returns how many of them were not. One import after the other, for two would lock
/// rows of each other.
async fn merge_as(tx: &mut PgConnection, import: Option<Uuid>) -> Result<i64, StoreError> {
    sqlx::query("LOCK TABLE products IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
    let before: i64 = sqlx::query_scalar("SELECT count(*) FROM products").fetch_one(&mut *tx).await?;
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "INSERT INTO products (id, article_number, name, description, price, currency, tiers, ean, category,
                               additional_info, custom_fields, import_id)
         SELECT DISTINCT ON (article_number) gen_random_uuid(), article_number, name, description, price,
                coalesce(currency, 'EUR'), tiers, ean, category, additional_info, custom_fields, $1
         FROM incoming ORDER BY article_number, line DESC
         ON CONFLICT (article_number) DO {KEEP_NEWEST}"
    )))
    .bind(import)
    .execute(&mut *tx)
    .await?;
    let after: i64 = sqlx::query_scalar("SELECT count(*) FROM products").fetch_one(tx).await?;
    Ok(after - before)
}

/// One row by one statement.
async fn insert(
    connection: &mut PgConnection,
    product: &ListedRow,
    on_conflict: &'static str,
) -> Result<u64, StoreError> {
    let done = sqlx::query(sqlx::AssertSqlSafe(format!(
        "INSERT INTO products (id, article_number, name, description, price, currency, tiers, ean, category,
                               additional_info, custom_fields)
         VALUES (gen_random_uuid(), $1, $2, $3, $4, coalesce($5, 'EUR'), $6, $7, $8, $9, $10)
         ON CONFLICT (article_number) DO {on_conflict}"
    )))
    .bind(&product.article_number)
    .bind(&product.name)
    .bind(&product.description)
    .bind(product.price)
    .bind(&product.currency)
    .bind(list_or_empty(&product.tiers))
    .bind(&product.ean)
    .bind(&product.category)
    .bind(&product.additional_info)
    .bind(object_or_empty(&product.custom_fields))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Rows as arrays, one for each column.
async fn unnest(connection: &mut PgConnection, products: &[ListedRow]) -> Result<(), StoreError> {
    let texts = |column: fn(&ListedRow) -> Option<String>| products.iter().map(column).collect::<Vec<_>>();
    let prices: Vec<Option<f64>> = products.iter().map(|product| product.price).collect();
    let tiers: Vec<Value> = products.iter().map(|product| list_or_empty(&product.tiers)).collect();
    let fields: Vec<Value> = products.iter().map(|product| object_or_empty(&product.custom_fields)).collect();
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "INSERT INTO products (id, article_number, name, description, price, currency, tiers, ean, category,
                               additional_info, custom_fields)
         SELECT gen_random_uuid(), number, name, description, price, coalesce(currency, 'EUR'), tiers, ean, category,
                info, fields
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::float8[], $5::text[], $6::jsonb[], $7::text[], $8::text[],
                     $9::text[], $10::jsonb[])
              AS row (number, name, description, price, currency, tiers, ean, category, info, fields)
         ON CONFLICT (article_number) DO {KEEP_NEWEST}"
    )))
    .bind(texts(|product| Some(product.article_number.clone())))
    .bind(texts(|product| Some(product.name.clone())))
    .bind(texts(|product| product.description.clone()))
    .bind(prices)
    .bind(texts(|product| product.currency.clone()))
    .bind(tiers)
    .bind(texts(|product| product.ean.clone()))
    .bind(texts(|product| product.category.clone()))
    .bind(texts(|product| product.additional_info.clone()))
    .bind(fields)
    .execute(connection)
    .await?;
    Ok(())
}
