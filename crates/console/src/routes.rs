//! What there is to be asked for, and what is needed for it: the one table from which the routes are made.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get};
use millstream_broker::acl::{Operation, ResourceType};

use crate::{Shown, guard, metrics, readyz};

/// What whoever asks for a page needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: anybody may ask, by any name of this host.
    Nothing,
    /// To have said who he is, where somebody asks for that; and the right to do this to the cluster, where
    /// there is an authorizer.
    OnCluster(Operation),
}

impl Needs {
    /// The kind of resource on which rights are needed.
    pub const RESOURCE: ResourceType = ResourceType::Cluster;
}

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it is.
    pub path: &'static str,
    /// What it needs.
    pub needs: Needs,
    page: Page,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Livez,
    Readyz,
    Metrics,
}

/// Every page. What is not here is not there, and whoever has not said who he is is not told so.
pub const ROUTES: &[Route] = &[
    Route { path: "/livez", needs: Needs::Nothing, page: Page::Livez },
    Route { path: "/readyz", needs: Needs::Nothing, page: Page::Readyz },
    Route { path: "/metrics", needs: Needs::OnCluster(Operation::Describe), page: Page::Metrics },
];

/// What the page of that path needs; `None` when there is none.
pub(super) fn needs(path: &str) -> Option<Needs> {
    ROUTES.iter().find(|route| route.path == path).map(|route| route.needs)
}

/// All routes behind their guard.
pub(super) fn router(shown: &Shown) -> Router {
    let add = |router: Router<Shown>, route: &Route| router.route(route.path, route.page.handler());
    let routes = ROUTES.iter().fold(Router::new(), add);
    // Around all, what there is not included.
    routes.layer(from_fn_with_state(shown.clone(), guard::admit)).with_state(shown.clone())
}

impl Page {
    fn handler(self) -> MethodRouter<Shown> {
        match self {
            Self::Livez => get(|| async { "live\n" }),
            Self::Readyz => get(readyz),
            Self::Metrics => get(metrics),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whoever_looks_after_us_needs_nothing() {
        let open = ROUTES.iter().filter(|route| route.needs == Needs::Nothing);
        let open: Vec<_> = open.map(|route| route.path).collect();
        assert_eq!(open, ["/livez", "/readyz"]);
    }

    /// What is said of rights is true.
    #[test]
    fn the_page_on_security_has_a_line_for_each() {
        let page = include_str!("../../../docs/security.md");
        for Route { path, needs, .. } in ROUTES {
            let needed = match needs {
                Needs::Nothing => "nothing".to_owned(),
                Needs::OnCluster(operation) => format!("`{operation}` on the cluster"),
            };
            let line = format!("| `{path}` | {needed} |");
            assert!(page.contains(&line), "docs/security.md lacks: {line}");
        }
    }
}
