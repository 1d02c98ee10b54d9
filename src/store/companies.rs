//! Companies: what jobs read of them and what lists brought; the newest that is approved is what is known.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::{event::Timestamp, job::JobId};

/// What a job found of a company, or why it found nothing.
#[derive(Clone, Debug)]
pub struct CompanyRow {
    pub id: Uuid,
    pub ordinal: i32,
    pub domain: String,
    /// `None`: a person has still to say whether it is right.
    pub approved: Option<bool>,
    /// `Err` says why nothing was found.
    pub profile: Result<Value, String>,
}

/// A company as it is known.
#[derive(Clone, Debug)]
pub struct Company {
    pub domain: String,
    pub profile: Value,
    pub found_at: Timestamp,
}

/// How one company of a job came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub domain: String,
    pub approved: Option<bool>,
    pub profile: Result<Value, String>,
    pub found_at: Timestamp,
}

/// Counts over what is known to one owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompanyCounts {
    pub companies: i64,
    /// Companies whose own sites were read.
    pub read: i64,
    pub people: i64,
    pub services: i64,
    pub products: i64,
    pub certifications: i64,
    /// Looks at sites, those that failed among them.
    pub attempts: i64,
    pub failed: i64,
}

/// The newest approved row of each domain of an owner ($1).
const KNOWN: &str = "SELECT DISTINCT ON (domain) domain, profile, source, found_at FROM companies
                     WHERE owner = $1 AND approved ORDER BY domain, found_at DESC, id";

impl Store {
    /// A page of the companies that an owner knows, those found last first, and how many there are.
    pub async fn companies(
        &self,
        owner: &str,
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<Company>, i64), StoreError> {
        let total =
            sqlx::query_scalar("SELECT count(DISTINCT domain) FROM companies WHERE owner = $1 AND approved")
                .bind(owner)
                .fetch_one(&self.pool)
                .await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT * FROM ({KNOWN}) AS known ORDER BY found_at DESC, domain LIMIT $2 OFFSET $3"
        )))
        .bind(owner)
        .bind(limit)
        .bind(offset)
        .fetch_all(&self.pool)
        .await?;
        Ok((rows.iter().map(company).collect::<Result<_, _>>()?, total))
    }

    /// The companies that an owner knows behind a domain, in the order of their domains.
    pub async fn companies_after(
        &self,
        owner: &str,
        domain: &str,
        limit: i64,
    ) -> Result<Vec<Company>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT ON (domain) domain, profile, found_at FROM companies
             WHERE owner = $1 AND approved AND domain > $2 ORDER BY domain, found_at DESC, id LIMIT $3",
        )
        .bind(owner)
        .bind(domain)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(company).collect()
    }

    /// Counts over the companies that an owner knows.
    pub async fn company_counts(&self, owner: &str) -> Result<CompanyCounts, StoreError> {
        let length = |list: &str| {
            format!(
                "coalesce(sum(CASE jsonb_typeof(profile->'{list}') WHEN 'array' THEN jsonb_array_length(profile->'{list}') END), 0)::bigint"
            )
        };
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT count(*), count(*) FILTER (WHERE source = 'site'), {}, {}, {}, {},
                    (SELECT count(*) FROM companies WHERE owner = $1 AND source = 'site'),
                    (SELECT count(*) FROM companies WHERE owner = $1 AND error IS NOT NULL)
             FROM ({KNOWN}) AS known",
            length("people_information"),
            length("services"),
            length("products"),
            length("certifications"),
        )))
        .bind(owner)
        .fetch_one(&self.pool)
        .await?;
        Ok(CompanyCounts {
            companies: row.try_get(0)?,
            read: row.try_get(1)?,
            people: row.try_get(2)?,
            services: row.try_get(3)?,
            products: row.try_get(4)?,
            certifications: row.try_get(5)?,
            attempts: row.try_get(6)?,
            failed: row.try_get(7)?,
        })
    }

    /// How the companies of a job came out, in the order in which they were asked for.
    pub async fn outcomes(&self, job: JobId) -> Result<Vec<Outcome>, StoreError> {
        let rows = sqlx::query("SELECT * FROM companies WHERE job_id = $1 ORDER BY ordinal, id")
            .bind(job.0)
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let error: Option<String> = row.try_get("error")?;
                Ok(Outcome {
                    domain: row.try_get("domain")?,
                    approved: row.try_get("approved")?,
                    profile: match error {
                        Some(error) => Err(error),
                        None => Ok(row.try_get("profile")?),
                    },
                    found_at: row.try_get("found_at")?,
                })
            })
            .collect()
    }

    /// What a person has said of a job's companies so far, by domain.
    pub async fn approvals(&self, job: JobId) -> Result<HashMap<String, Option<bool>>, StoreError> {
        let rows = sqlx::query("SELECT domain, approved FROM companies WHERE job_id = $1 AND error IS NULL")
            .bind(job.0)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Writes down what a person says of a company that a job found; returns whether there is one.
    pub async fn approve(&self, job: JobId, domain: &str, accept: bool) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE companies SET approved = $3 WHERE job_id = $1 AND domain = $2 AND error IS NULL",
        )
        .bind(job.0)
        .bind(domain)
        .bind(accept)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Makes the companies of a list known. One of which the list says nothing but its domain is new or left as it is.
    /// Returns how many rows were taken.
    pub async fn list_companies(&self, owner: &str, listed: &[(String, Value)]) -> Result<u64, StoreError> {
        let ids: Vec<Uuid> = listed.iter().map(|_| Uuid::now_v7()).collect();
        let (domains, profiles): (Vec<&str>, Vec<&Value>) =
            listed.iter().map(|(domain, profile)| (domain.as_str(), profile)).unzip();
        let done = sqlx::query(
            "INSERT INTO companies (id, owner, domain, ordinal, source, approved, profile)
             SELECT id, $1, domain, ordinal, 'list', true, profile
             FROM UNNEST($2::uuid[], $3::text[], $4::jsonb[]) WITH ORDINALITY AS new (id, domain, profile, ordinal)
             WHERE profile <> '{}' OR NOT EXISTS (
                 SELECT FROM companies AS known
                 WHERE known.owner = $1 AND known.domain = new.domain AND known.approved)",
        )
        .bind(owner)
        .bind(&ids)
        .bind(&domains)
        .bind(&profiles)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// Domains that an owner knows, those that have been known for longest first; only those whose sites were never
    /// looked at if `only_new`.
    pub async fn known_domains(
        &self,
        owner: &str,
        only_new: bool,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let domains = sqlx::query_scalar(
            "SELECT domain FROM companies WHERE owner = $1 GROUP BY domain
             HAVING bool_or(approved) AND NOT ($2 AND bool_or(source = 'site'))
             ORDER BY min(found_at), min(ordinal), domain LIMIT $3",
        )
        .bind(owner)
        .bind(only_new)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(domains)
    }
}

/// Writes what a job found of a company.
pub(super) async fn insert(tx: &mut PgConnection, job: JobId, row: &CompanyRow) -> Result<(), sqlx::Error> {
    let (profile, error) = match &row.profile {
        Ok(profile) => (profile.clone(), None),
        Err(error) => (Value::Object(Default::default()), Some(error)),
    };
    sqlx::query(
        "INSERT INTO companies (id, owner, domain, job_id, ordinal, source, approved, error, profile)
         SELECT $1, owner, $3, id, $4, 'site', $5, $6, $7 FROM jobs WHERE id = $2
         ON CONFLICT (id) DO UPDATE SET approved = excluded.approved, error = excluded.error,
             profile = excluded.profile, found_at = now()",
    )
    .bind(row.id)
    .bind(job.0)
    .bind(&row.domain)
    .bind(row.ordinal)
    .bind(row.approved.filter(|_| error.is_none()))
    .bind(error)
    .bind(profile)
    .execute(tx)
    .await?;
    Ok(())
}

fn company(row: &PgRow) -> Result<Company, StoreError> {
    Ok(Company {
        domain: row.try_get("domain")?,
        profile: row.try_get("profile")?,
        found_at: row.try_get("found_at")?,
    })
}
