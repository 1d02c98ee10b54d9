//! Known products and the price lists that they come from.

use bytes::{BufMut, BytesMut};
use postgres_types::{IsNull, ToSql, Type};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{PgConnection, Row as _, types::Json};
use uuid::Uuid;

use super::{Store, StoreError};

/// One product of a price list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedRow {
    pub article_number: String,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub price: Option<f64>,
    /// `[{"minQuantity":10,"price":4.5}]`
    #[serde(default)]
    pub tiers: Value,
    #[serde(default)]
    pub ean: Option<String>,
    #[serde(default)]
    pub category: Option<String>,
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
}

/// A stored price list.
#[derive(Clone, Debug)]
pub struct Import {
    pub id: Uuid,
    pub products: Vec<ListedRow>,
}

impl Store {
    /// Stores a price list and makes its products known, in one transaction; of rows with one article number the
    /// last wins.
    pub async fn import(&self, new: NewImport) -> Result<Uuid, StoreError> {
        let id = Uuid::now_v7();
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO excel_imports (id, file_name, file_size, row_count, headers, products, errors)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id)
        .bind(&new.file_name)
        .bind(new.file_size)
        .bind(new.products.len() as i32)
        .bind(Json(&new.headers))
        .bind(Json(&new.products))
        .bind(&new.errors)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "CREATE TEMPORARY TABLE incoming (line int, article_number text, name text, description text, price float8,
                                              tiers jsonb, ean text, category text) ON COMMIT DROP",
        )
        .execute(&mut *tx)
        .await?;
        copy(&mut tx, &new.products).await?;
        sqlx::query(
            "INSERT INTO products (id, article_number, name, description, price, tiers, ean, category, import_id)
             SELECT DISTINCT ON (article_number) gen_random_uuid(), article_number, name, description, price, tiers,
                    ean, category, $1
             FROM incoming ORDER BY article_number, line DESC
             ON CONFLICT (article_number) DO UPDATE SET name = excluded.name, description = excluded.description,
                    price = excluded.price, tiers = excluded.tiers, ean = excluded.ean,
                    category = excluded.category, import_id = excluded.import_id, updated_at = now()",
        )
        .bind(id)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(id)
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
        rows.iter()
            .map(|row| {
                Ok(ListedRow {
                    article_number: row.try_get("article_number")?,
                    name: row.try_get("name")?,
                    description: row.try_get("description")?,
                    price: row.try_get("price")?,
                    tiers: row.try_get("tiers")?,
                    ean: row.try_get("ean")?,
                    category: row.try_get("category")?,
                })
            })
            .collect()
    }

    /// Changes whenever the known products do.
    pub async fn products_version(&self) -> Result<String, StoreError> {
        let version: String =
            sqlx::query_scalar("SELECT count(*) || ' ' || coalesce(max(updated_at)::text, '') FROM products")
                .fetch_one(&self.pool)
                .await?;
        Ok(version)
    }
}

/// Rows of a price list into `incoming` by binary COPY, about forty times as fast as one INSERT a row.
async fn copy(tx: &mut PgConnection, products: &[ListedRow]) -> Result<(), StoreError> {
    /// Sent on at this many bytes.
    const CHUNK: usize = 1 << 16;
    let encode = |error: Box<dyn std::error::Error + Sync + Send>| StoreError::Corrupt {
        table: "products",
        detail: error.to_string(),
    };
    let mut copy = tx.copy_in_raw("COPY incoming FROM STDIN (FORMAT binary)").await?;
    let mut buffer = BytesMut::with_capacity(CHUNK * 2);
    buffer.put_slice(b"PGCOPY\n\xff\r\n\0");
    buffer.put_i32(0);
    buffer.put_i32(0);
    for (line, product) in products.iter().enumerate() {
        let tiers = if product.tiers.is_null() { json!([]) } else { product.tiers.clone() };
        let line = line as i32;
        let columns: [(&(dyn ToSql + Sync), Type); 8] = [
            (&line, Type::INT4),
            (&product.article_number, Type::TEXT),
            (&product.name, Type::TEXT),
            (&product.description, Type::TEXT),
            (&product.price, Type::FLOAT8),
            (&tiers, Type::JSONB),
            (&product.ean, Type::TEXT),
            (&product.category, Type::TEXT),
        ];
        buffer.put_i16(columns.len() as i16);
        for (value, column_type) in columns {
            let length_at = buffer.len();
            buffer.put_i32(-1);
            if let IsNull::No = value.to_sql_checked(&column_type, &mut buffer).map_err(encode)? {
                let length = (buffer.len() - length_at - 4) as i32;
                buffer[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
            }
        }
        if buffer.len() >= CHUNK {
            copy.send(buffer.split().freeze()).await?;
        }
    }
    buffer.put_i16(-1);
    copy.send(buffer.freeze()).await?;
    copy.finish().await?;
    Ok(())
}
