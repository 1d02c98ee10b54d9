//! The one table of refusals: what the server says no to, and how every API words it.

use std::fmt;

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    MalformedId,
    JobNotFound,
    JobEnded,
    JobPaused,
    JobNotPaused,
    JobAtWork,
    NothingToRetry,
    AlreadyRetried,
    KeyReused,
    ScheduleNotFound,
    WebhookNotFound,
    AddressRefused,
    UnknownKind,
    PrefixTaken,
    ArtifactNotFound,
    Fenced,
    InvalidRequest,
    UnknownTemplate,
    TemplateExists,
    TemplateInUse,
    TooLarge,
    TooMany,
    InsufficientCredits,
    Unauthenticated,
    InvalidToken,
    TokenExpired,
    Forbidden,
    RouteNotFound,
    MethodNotAllowed,
    Unavailable,
    Internal,
}

impl Code {
    /// Every code, for tests and documents.
    pub const ALL: &[Code] = &[
        Code::MalformedId,
        Code::JobNotFound,
        Code::JobEnded,
        Code::JobPaused,
        Code::JobNotPaused,
        Code::JobAtWork,
        Code::NothingToRetry,
        Code::AlreadyRetried,
        Code::KeyReused,
        Code::ScheduleNotFound,
        Code::WebhookNotFound,
        Code::AddressRefused,
        Code::UnknownKind,
        Code::PrefixTaken,
        Code::ArtifactNotFound,
        Code::Fenced,
        Code::InvalidRequest,
        Code::UnknownTemplate,
        Code::TemplateExists,
        Code::TemplateInUse,
        Code::TooLarge,
        Code::TooMany,
        Code::InsufficientCredits,
        Code::Unauthenticated,
        Code::InvalidToken,
        Code::TokenExpired,
        Code::Forbidden,
        Code::RouteNotFound,
        Code::MethodNotAllowed,
        Code::Unavailable,
        Code::Internal,
    ];

    /// The word that programs compare: in `/v1`'s error bodies and in acknowledgements.
    pub fn word(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        self.row().1
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        self.row().2
    }

    fn row(self) -> (&'static str, u16, bool) {
        match self {
            //                              word                      http  retryable
            Code::MalformedId => ("malformed_id", 400, false),
            Code::JobNotFound => ("job_not_found", 404, false),
            Code::JobEnded => ("job_ended", 409, false),
            Code::JobPaused => ("job_paused", 409, false),
            Code::JobNotPaused => ("job_not_paused", 409, false),
            Code::JobAtWork => ("job_at_work", 409, true),
            Code::NothingToRetry => ("nothing_to_retry", 409, false),
            Code::AlreadyRetried => ("already_retried", 409, true),
            Code::KeyReused => ("idempotency_key_reused", 409, false),
            Code::ScheduleNotFound => ("schedule_not_found", 404, false),
            Code::WebhookNotFound => ("webhook_not_found", 404, false),
            Code::AddressRefused => ("address_refused", 400, false),
            Code::UnknownKind => ("unknown_kind", 400, false),
            Code::PrefixTaken => ("prefix_taken", 409, false),
            Code::ArtifactNotFound => ("artifact_not_found", 404, false),
            Code::Fenced => ("fenced", 409, false),
            Code::InvalidRequest => ("invalid_request", 400, false),
            Code::UnknownTemplate => ("unknown_template", 400, false),
            Code::TemplateExists => ("template_exists", 409, false),
            Code::TemplateInUse => ("template_in_use", 409, false),
            Code::TooLarge => ("too_large", 413, false),
            Code::TooMany => ("too_many", 429, true),
            Code::InsufficientCredits => ("insufficient_credits", 402, false),
            Code::Unauthenticated => ("unauthenticated", 401, false),
            Code::InvalidToken => ("invalid_token", 401, false),
            Code::TokenExpired => ("token_expired", 401, false),
            Code::Forbidden => ("forbidden", 403, false),
            Code::RouteNotFound => ("route_not_found", 404, false),
            Code::MethodNotAllowed => ("method_not_allowed", 405, false),
            Code::Unavailable => ("unavailable", 503, true),
            Code::Internal => ("internal", 500, true),
        }
    }
}

/// A refusal with a sentence that says what was wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub code: Code,
    pub message: String,
}

impl Rejection {
    pub fn new(code: Code, message: impl Into<String>) -> Rejection {
        Rejection { code, message: message.into() }
    }

    /// No job has this id.
    pub fn job_not_found(id: impl fmt::Display) -> Rejection {
        Rejection::new(Code::JobNotFound, format!("There is no job {id}; GET /v1/jobs lists the jobs."))
    }

    /// All that was done is done well.
    pub fn nothing_to_retry(id: impl fmt::Display) -> Rejection {
        let message = format!("No item of job {id} has failed, so there is nothing to try again.");
        Rejection::new(Code::NothingToRetry, message)
    }

    /// Nobody has registered this kind of work.
    pub fn unknown_kind(kind: &str) -> Rejection {
        let shown: String = kind.chars().take(40).collect();
        let message = format!("There is no kind of work {shown:?}; PUT /v1/kinds/{{kind}} registers one.");
        Rejection::new(Code::UnknownKind, message)
    }

    /// Somebody else has the job by now, or nobody.
    pub fn fenced(id: impl fmt::Display) -> Rejection {
        let message = format!("This worker does not have job {id} any more; drop the work and claim again.");
        Rejection::new(Code::Fenced, message)
    }

    /// No schedule has this id.
    pub fn schedule_not_found(id: impl fmt::Display) -> Rejection {
        let message = format!("There is no schedule {id}; GET /v1/schedules lists the schedules.");
        Rejection::new(Code::ScheduleNotFound, message)
    }

    /// No webhook has this id.
    pub fn webhook_not_found(id: impl fmt::Display) -> Rejection {
        let message = format!("There is no webhook {id}; GET /v1/webhooks lists the webhooks.");
        Rejection::new(Code::WebhookNotFound, message)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Rejection {}
