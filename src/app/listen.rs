//! Addresses to listen on.

use std::{io, net::SocketAddr};

use anyhow::anyhow;
use tokio::net::TcpListener;

/// Binds all addresses.
///
/// # Errors
/// For a taken port, one that needs rights, or an address that is not this machine's: what to do about it.
pub async fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let listener = TcpListener::bind(address).await.map_err(|error| explain(*address, &error))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn explain(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "port {port} is taken by another program; stop it, or listen elsewhere with --listen {}:{}",
            address.ip(),
            port.saturating_add(1)
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow!(
                "listening on port {port} needs rights that this user does not have; choose a port from 1024 with --listen"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            anyhow!("{} is no address of this machine; use 127.0.0.1 or 0.0.0.0 with --listen", address.ip())
        }
        _ => anyhow!("cannot listen on {address}: {error}"),
    }
}
