//! Routes: which app a path belongs to.

use std::sync::Arc;

/// Values by the route they are mounted at.
#[derive(Debug)]
pub struct Routes<T> {
    /// The longest route first, so that the first match is the nearest. No slash at the end.
    routes: Vec<(String, Arc<T>)>,
}

impl<T> Routes<T> {
    /// Routes as the configuration has them: checked, and each taken once.
    pub fn new(routes: impl IntoIterator<Item = (String, Arc<T>)>) -> Self {
        let trimmed = routes
            .into_iter()
            .map(|(route, value)| (route.trim_end_matches('/').to_owned(), value));
        let mut routes: Vec<_> = trimmed.collect();
        routes.sort_by_key(|(route, _)| std::cmp::Reverse(route.len()));
        Self { routes }
    }

    /// The value mounted nearest to a path, and the path below it, with a slash in front.
    pub fn find<'a>(&self, path: &'a str) -> Option<(&Arc<T>, &'a str)> {
        self.routes
            .iter()
            .find_map(|(route, value)| match path.strip_prefix(route.as_str())? {
                "" => Some((value, "/")),
                below if below.starts_with('/') => Some((value, below)),
                _ => None,
            })
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.routes.iter().map(|(_, value)| value)
    }

    /// All routes, for people.
    pub fn names(&self) -> Vec<&str> {
        let names = self
            .routes
            .iter()
            .map(|(route, _)| if route.is_empty() { "/" } else { route });
        names.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_route_wins_and_ends_at_a_slash() {
        let routes =
            ["/chat", "/chat/admin", "/news"].map(|route| (route.to_owned(), Arc::new(route)));
        let routes = Routes::new(routes);
        let find = |path| routes.find(path).map(|(route, below)| (**route, below));
        assert_eq!(find("/chat"), Some(("/chat", "/")));
        assert_eq!(find("/chat/"), Some(("/chat", "/")));
        assert_eq!(find("/chat/rooms/1"), Some(("/chat", "/rooms/1")));
        assert_eq!(find("/chat/admin/x"), Some(("/chat/admin", "/x")));
        assert_eq!(find("/chatter"), None);
        assert_eq!(find("/"), None);
    }

    #[test]
    fn the_root_takes_what_is_left() {
        let routes = Routes::new([
            ("/".to_owned(), Arc::new(1)),
            ("/a".to_owned(), Arc::new(2)),
        ]);
        let find = |path| routes.find(path).map(|(route, below)| (**route, below));
        assert_eq!(find("/"), Some((1, "/")));
        assert_eq!(find("/b"), Some((1, "/b")));
        assert_eq!(find("/a/b"), Some((2, "/b")));
        assert_eq!(find("*"), None);
    }
}
