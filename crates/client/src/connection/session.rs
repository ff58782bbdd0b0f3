//! Sessions that end (KIP-368): the client logs in again before, on the same connection, so that what is under way
//! goes on and keeps its order.

use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::time::Duration;

use millstream_env::{Env, Random};
use millstream_types::Monotonic;
use tokio::sync::mpsc;

use super::driver::Order;
use super::{ApiVersions, Connection, ConnectionSettings, LoginSettings, Status};

/// When a session is renewed, in parts of its lifetime: between these two, so that many clients that have come
/// together do not come again together.
const PARTS: u32 = 1_000;
const EARLIEST_PARTS: u32 = 850;
const LATEST_PARTS: u32 = 950;

/// A connection as whoever renews its session knows it, without keeping it open.
struct Renewal {
    env: Env,
    settings: ConnectionSettings,
    login: LoginSettings,
    queue: mpsc::WeakUnboundedSender<Order>,
    status: Arc<Status>,
    correlation: Arc<AtomicI32>,
    versions: Arc<ApiVersions>,
}

impl Connection {
    /// Renews the session that was `begun` and holds for `lifetime`, again and again, as long as there is
    /// somebody who uses the connection.
    pub(super) fn renew(&self, login: LoginSettings, begun: Monotonic, lifetime: Duration) {
        let renewal = Renewal {
            env: self.env.clone(),
            settings: self.settings.clone(),
            login,
            queue: self.queue.downgrade(),
            status: Arc::clone(&self.status),
            correlation: Arc::clone(&self.correlation),
            versions: Arc::clone(&self.versions),
        };
        self.env.spawn("kafka session", renewal.run(begun, lifetime));
    }
}

impl Renewal {
    async fn run(self, mut begun: Monotonic, mut lifetime: Duration) {
        let mut over = self.status.over.subscribe();
        loop {
            let due = begun.plus(share(lifetime, &*self.env.random));
            tokio::select! {
                biased;
                _ = over.wait_for(Option::is_some) => return,
                () = self.env.clock.sleep_until(due) => {}
            }
            let Some(connection) = self.alone() else { return };
            begun = self.env.clock.monotonic();
            match connection.log_in(&self.login).await {
                Ok(Some(next)) => lifetime = next,
                Ok(None) => return,
                Err(error) => {
                    // The broker would close it at its next request.
                    self.status.broken(&error);
                    return;
                }
            }
        }
    }

    /// The connection for nobody else, as long as this lives; `None` when nobody uses it any more.
    fn alone(&self) -> Option<Connection> {
        let (queue, orders) = mpsc::unbounded_channel();
        self.queue.upgrade()?.send(Order::Alone(orders)).ok()?;
        Some(Connection {
            env: self.env.clone(),
            settings: self.settings.clone(),
            queue,
            status: Arc::clone(&self.status),
            correlation: Arc::clone(&self.correlation),
            versions: Arc::clone(&self.versions),
        })
    }
}

/// How much of a lifetime passes before it is renewed.
fn share(lifetime: Duration, random: &dyn Random) -> Duration {
    let mut drawn = [0; 4];
    random.fill(&mut drawn);
    let parts = EARLIEST_PARTS + u32::from_le_bytes(drawn) % (LATEST_PARTS - EARLIEST_PARTS);
    lifetime.saturating_mul(parts) / PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_renewed_in_time_and_not_all_at_once() {
        let (env, _) = Env::seeded(1);
        let shares: std::collections::BTreeSet<_> =
            (0..100).map(|_| share(Duration::from_secs(100), &*env.random)).collect();
        let (first, last) = (shares.first().copied(), shares.last().copied());
        assert!(first >= Some(Duration::from_secs(85)) && last < Some(Duration::from_secs(95)));
        assert!(shares.len() > 50, "{shares:?}");
    }
}
