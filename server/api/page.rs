//! Pages of long lists, as RabbitMQ's management has them.

use regex::Regex;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use super::Failure;

/// Items of a page at most.
const SIZE_MAX: usize = 500;

/// What a request for a list may ask for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    page: Option<usize>,
    page_size: Option<usize>,
    name: Option<String>,
    use_regex: Option<bool>,
    columns: Option<String>,
}

impl Wanted {
    /// The page that is wanted, or all when none is.
    pub(super) fn of(&self, mut all: Vec<JsonValue>) -> Result<JsonValue, Failure> {
        let total = all.len();
        self.filter(&mut all)?;
        self.cut(&mut all);
        let Some(page) = self.page else {
            return Ok(all.into());
        };
        let size = self.page_size.unwrap_or(100);
        if page == 0 || !(1..=SIZE_MAX).contains(&size) {
            return Err(Failure::BadRequest("Page or page size out of range".into()));
        }
        let filtered = all.len();
        let pages = filtered.div_ceil(size).max(1);
        if page > pages {
            let text = format!("Page not found, last page is {pages}");
            return Err(Failure::BadRequest(text));
        }
        let items: Vec<_> = all.into_iter().skip((page - 1) * size).take(size).collect();
        Ok(json!({
            "page": page, "page_size": size, "page_count": pages, "item_count": items.len(),
            "filtered_count": filtered, "total_count": total, "items": items,
        }))
    }

    fn filter(&self, all: &mut Vec<JsonValue>) -> Result<(), Failure> {
        let Some(wanted) = self.name.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(());
        };
        let name = |item: &JsonValue| item["name"].as_str().unwrap_or_default().to_owned();
        if self.use_regex == Some(true) {
            let pattern =
                Regex::new(wanted).map_err(|error| Failure::BadRequest(error.to_string()))?;
            all.retain(|item| pattern.is_match(&name(item)));
        } else {
            all.retain(|item| name(item).contains(wanted));
        }
        Ok(())
    }

    fn cut(&self, all: &mut [JsonValue]) {
        let Some(columns) = &self.columns else { return };
        let wanted: Vec<_> = columns.split(',').map(str::trim).collect();
        for item in all {
            if let Some(members) = item.as_object_mut() {
                members.retain(|name, _| wanted.contains(&name.as_str()));
            }
        }
    }
}
