//! `jobcast migrate`: brings the database's tables up to date and ends.

use crate::{app::server, config::Config, store};

/// Migrates the database that the settings name.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let data_dir = server::data_dir(&config.server.data_dir)?;
    let (options, postgres) = server::database(&config, &data_dir).await?;
    let pool = store::connect(options, &config.database).await?;
    let migrated = store::migrate(&pool).await;
    pool.close().await;
    if let Some(postgres) = postgres {
        postgres.stop().await;
    }
    migrated?;
    println!("The database is up to date.");
    Ok(())
}
