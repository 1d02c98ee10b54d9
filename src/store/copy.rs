//! Binary COPY: rows into a table about forty times as fast as one INSERT a row, without holding them all in memory.

use bytes::{BufMut, BytesMut};
use postgres_types::{IsNull, ToSql, Type};
use sqlx::{PgConnection, postgres::PgCopyIn};

use super::StoreError;

/// Bytes that are sent at once.
const CHUNK: usize = 1 << 16;

/// Rows on their way into one table. Dropped before [`Copy::finish`], none of them arrives.
pub(super) struct Copy<'a> {
    sink: PgCopyIn<&'a mut PgConnection>,
    table: &'static str,
    buffer: BytesMut,
}

impl<'a> Copy<'a> {
    /// `table` has exactly the columns that the rows have values for, in their order.
    pub async fn into(connection: &'a mut PgConnection, table: &'static str) -> Result<Copy<'a>, StoreError> {
        let sink = connection.copy_in_raw(&format!("COPY {table} FROM STDIN (FORMAT binary)")).await?;
        let mut buffer = BytesMut::with_capacity(CHUNK * 2);
        buffer.put_slice(b"PGCOPY\n\xff\r\n\0");
        buffer.put_i32(0);
        buffer.put_i32(0);
        Ok(Copy { sink, table, buffer })
    }

    /// One row: a value for each column of the table, in order.
    pub async fn row(&mut self, values: &[(&(dyn ToSql + Sync), Type)]) -> Result<(), StoreError> {
        self.buffer.put_i16(values.len() as i16);
        for (value, column_type) in values {
            let length_at = self.buffer.len();
            self.buffer.put_i32(-1);
            let encoded = value.to_sql_checked(column_type, &mut self.buffer);
            let encoded = encoded
                .map_err(|error| StoreError::Corrupt { table: self.table, detail: error.to_string() })?;
            if let IsNull::No = encoded {
                let length = (self.buffer.len() - length_at - 4) as i32;
                self.buffer[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
            }
        }
        if self.buffer.len() >= CHUNK {
            self.sink.send(self.buffer.split().freeze()).await?;
        }
        Ok(())
    }

    /// Sends what is left; the rows are in the table then.
    pub async fn finish(mut self) -> Result<(), StoreError> {
        self.buffer.put_i16(-1);
        self.sink.send(self.buffer.freeze()).await?;
        self.sink.finish().await?;
        Ok(())
    }
}
