//! The embedded Postgres: it comes up whatever became of the one before it.

use jobcast::{
    config::Config,
    store::embedded::{Durability, Postgres},
};
use sqlx::{Connection as _, PgConnection};

use crate::support::{folder, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_while_its_predecessor_goes_down_waits_for_it() {
    let folder = folder();
    let run_as = Config::defaults().database.run_as;
    let mut rows = 0_i64;
    for _ in 0..4 {
        let server =
            soon("the server", Postgres::start(folder.path(), &run_as, Durability::Durable)).await.unwrap();
        let mut connection = PgConnection::connect_with(&server.options()).await.unwrap();
        for statement in [
            "CREATE TABLE IF NOT EXISTS filling (text text)",
            // What its last checkpoint has to write keeps it busy while the next one starts.
            "INSERT INTO filling SELECT repeat('x', 1000) FROM generate_series(1, 20000)",
        ] {
            sqlx::query(statement).execute(&mut connection).await.unwrap();
        }
        rows += 20_000;
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM filling").fetch_one(&mut connection).await.unwrap();
        assert_eq!(count, rows);
        // As when the process is killed: the server is told, and nobody waits for it.
        drop(server);
    }
}
