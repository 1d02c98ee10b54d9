//! What stands around every route (limits, CORS, a last word for panics), and the loop that serves connections.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
    set_header::SetResponseHeaderLayer,
    timeout::TimeoutLayer,
};

use super::{
    Api,
    caller::{self, Refuse},
    error::Error,
    forwarded,
    numbers::{Numbers, open_routes},
    trace,
};
use crate::{
    config,
    job::{Code, Rejection},
};

/// The router of the whole server: native routes, dialects and sockets behind the same limits.
pub struct Shell(Router);

impl Shell {
    /// Puts limits around `routes`, and beside them `sockets`, which has its own.
    ///
    /// Who may not come in hears it in the words of `refuse`.
    pub fn new<S>(
        routes: Router<Api>,
        api: Api,
        refuse: Refuse,
        sockets: S,
        settings: &config::Server,
    ) -> Shell
    where
        S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let nosniff = SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        let router = routes
            .with_state(api.clone())
            .layer(from_fn_with_state((api, refuse), caller::find))
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, settings.request_timeout))
            .layer(DefaultBodyLimit::max(settings.max_body))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(nosniff);
        let router = Router::new()
            .route_service("/socket.io", sockets.clone())
            .route_service("/socket.io/", sockets)
            .fallback_service(router)
            .layer(cors(&settings.cors_origins));
        if settings.trusted_proxies.is_empty() {
            return Shell(router);
        }
        let trusted: Arc<[IpNet]> = settings.trusted_proxies.as_slice().into();
        Shell(router.layer(from_fn_with_state(trusted, forwarded::note)))
    }

    /// Adds routes without state, such as the demo shop.
    pub fn nest(self, path: &str, routes: Router) -> Shell {
        Shell(Router::new().nest_service(path, routes).fallback_service(self.0))
    }
}

fn cors(origins: &[String]) -> CorsLayer {
    const CACHE: Duration = Duration::from_secs(3600);
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let headers = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_NONE_MATCH,
        header::RANGE,
        HeaderName::from_static("x-requested-with"),
        HeaderName::from_static("x-api-key"),
        HeaderName::from_static("last-event-id"),
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("x-idempotency-key"),
        trace::REQUEST_ID,
        trace::TRACEPARENT,
    ];
    let layer = CorsLayer::new().allow_methods(methods).allow_headers(headers).max_age(CACHE);
    let layer = layer.expose_headers([
        header::LOCATION,
        header::ETAG,
        header::CONTENT_RANGE,
        header::RETRY_AFTER,
        super::REPLAYED.0,
        trace::REQUEST_ID,
        HeaderName::from_static("x-render-time"),
    ]);
    if origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(AllowOrigin::any());
    }
    let origins = origins.to_vec();
    let known = move |origin: &HeaderValue, _: &Parts| {
        origin.to_str().is_ok_and(|origin| config::allows_origin(&origins, origin, None))
    };
    layer.allow_origin(AllowOrigin::predicate(known)).allow_credentials(true)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    // The panic hook has written the cause to the log.
    Error::from(Rejection::new(Code::Internal, "The server failed at this request; its log tells why."))
        .into_response()
}

/// Serves connections until `stop`; then no new ones are taken and open requests may end. A peer that takes nothing of
/// what it is sent for as long as `stall` is disconnected.
pub async fn serve(
    listeners: Vec<TcpListener>,
    shell: Shell,
    stop: CancellationToken,
    stall: Duration,
) -> std::io::Result<()> {
    let router = shell.0.layer(from_fn(trace::request));
    let mut servers = tokio::task::JoinSet::new();
    for listener in listeners {
        let router = router.clone().into_make_service_with_connect_info::<SocketAddr>();
        let stop = stop.clone();
        // Small events must not wait for more to come.
        let listener = axum::serve::ListenerExt::tap_io(listener, move |stream| {
            let _ = stream.set_nodelay(true);
            // A reader that is stuck would hold its socket for ever: the heartbeat waits for the same blocked write.
            let stall = u32::try_from(stall.as_millis()).unwrap_or(u32::MAX);
            let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, stall);
        });
        servers.spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
        });
    }
    while let Some(ended) = servers.join_next().await {
        ended.map_err(std::io::Error::other)??;
    }
    Ok(())
}

/// Serves the numbers alone, to whoever reaches these listeners, until `stop`.
pub async fn serve_numbers(
    listeners: Vec<TcpListener>,
    numbers: Numbers,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let mut servers = tokio::task::JoinSet::new();
    for listener in listeners {
        let (routes, stop) = (open_routes(numbers.clone()), stop.clone());
        servers.spawn(async move {
            axum::serve(listener, routes).with_graceful_shutdown(async move { stop.cancelled().await }).await
        });
    }
    while let Some(ended) = servers.join_next().await {
        ended.map_err(std::io::Error::other)??;
    }
    Ok(())
}
