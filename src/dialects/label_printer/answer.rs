//! How this API says yes and no: two shapes of refusals, and successes that every version of the pages can read.

use axum::{
    Json,
    extract::{FromRequestParts, Path},
    http::{Method, StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

pub use crate::http::{objects_failed, status};
use crate::{
    http::{Api, Caller, internal},
    job::{Code, JobId, Rejection},
    store::StoreError,
};

/// What stands in front of the routes that refuse in a shape of their own.
const AUTOMATION: [&str; 3] = ["/api/automation/", "/api/templates", "/api/ocr/"];

/// An answer that says no; [`say_success`] gives it the shape of the routes that it is around.
#[derive(Clone, Debug)]
pub struct Refusal {
    status: StatusCode,
    body: Value,
}

impl Refusal {
    /// `{error}`, the shape of the automation routes.
    pub fn automation(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, body: json!({ "error": error.into() }) }
    }

    /// `{error, message}`: what failed, and a sentence that says why.
    pub fn because(status: StatusCode, error: &str, message: impl Into<String>) -> Refusal {
        Refusal { status, body: json!({ "error": error, "message": message.into() }) }
    }

    /// `{success:false, error}`, the shape of all other routes.
    pub fn plain(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, body: json!({ "success": false, "error": error.into() }) }
    }

    /// The automation routes' word for an id that no job has.
    pub fn no_job() -> Refusal {
        Refusal::automation(StatusCode::NOT_FOUND, "Job not found")
    }
}

/// What a refusal looks like, for the contract.
#[derive(Serialize, ToSchema)]
pub struct RefusalBody {
    /// `false`, on all routes but those of automation, templates and OCR.
    success: Option<bool>,
    /// What is wrong.
    error: String,
    /// More of it.
    message: Option<String>,
}

impl Refusal {
    /// What it says, for an item of a list that cannot be answered with a status.
    pub fn sentence(&self) -> String {
        let said = ["message", "error"].iter().find_map(|key| self.body[*key].as_str());
        said.unwrap_or("it was refused").to_owned()
    }
}

#[cfg(test)]
impl Refusal {
    pub fn body(self) -> Value {
        self.body
    }
}

impl From<Rejection> for Refusal {
    fn from(Rejection { code, message }: Rejection) -> Refusal {
        match code {
            Code::JobNotFound | Code::MalformedId => Refusal::no_job(),
            code => Refusal::automation(status(code), message),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        internal(error).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&self.body)).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Makes `{error}` into `{success: false, error}`, the shape of most routes.
pub async fn say_success(response: Response) -> Response {
    match response.extensions().get::<Refusal>() {
        Some(refusal) if refusal.body.get("success").is_none() => {
            let mut refusal = refusal.clone();
            if let Value::Object(body) = &mut refusal.body {
                body.shift_insert(0, "success".into(), false.into());
            }
            refusal.into_response()
        }
        _ => response,
    }
}

/// `{success:true, …, data:{…}}`: the first pages read the top level, later ones read `data`.
pub fn success(body: Value) -> Response {
    #[derive(Serialize)]
    struct Success<'a> {
        success: bool,
        #[serde(flatten)]
        body: &'a Value,
        data: &'a Value,
    }
    Json(Success { success: true, body: &body, data: &body }).into_response()
}

/// Which page of a list this is, from 1, and how many pages of `limit` entries there are.
pub fn pagination(page: i64, limit: i64, total: i64) -> Value {
    let pages = (total + limit - 1) / limit;
    json!({
        "page": page,
        "limit": limit,
        "total": total,
        "totalPages": pages,
        "hasNext": page < pages,
        "hasPrev": page > 1,
    })
}

/// The job that a path names, which is one that the caller may know of. What is no id at all names no job either.
pub struct Id(pub JobId);

impl FromRequestParts<Api> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Id, Refusal> {
        #[derive(Deserialize)]
        struct Named {
            id: String,
        }
        let Path(Named { id }) = Path::from_request_parts(parts, api).await.map_err(|_| Refusal::no_job())?;
        let caller = Caller::from_request_parts(parts, api).await.map_err(|_| Refusal::no_job())?;
        let job = id.parse()?;
        api.admit(&caller, job).await?;
        Ok(Id(job))
    }
}

/// How who may not come in hears it.
pub fn refuse(uri: &Uri, Rejection { code, message }: &Rejection) -> Response {
    let refusal = if AUTOMATION.iter().any(|prefix| uri.path().starts_with(prefix)) {
        Refusal::automation(status(*code), message)
    } else {
        Refusal::plain(status(*code), message)
    };
    refusal.into_response()
}

/// Any path below `/api` that is no route.
pub async fn no_route() -> Refusal {
    Refusal::plain(StatusCode::NOT_FOUND, "Route not found")
}

/// A route that does not take this method.
pub async fn no_method(method: Method, uri: Uri) -> Refusal {
    let sentence = format!("{} does not take {method}.", uri.path());
    if AUTOMATION.iter().any(|prefix| uri.path().starts_with(prefix)) {
        Refusal::automation(StatusCode::METHOD_NOT_ALLOWED, sentence)
    } else {
        Refusal::plain(StatusCode::METHOD_NOT_ALLOWED, sentence)
    }
}
