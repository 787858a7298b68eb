//! Quotas of clients: set, changed and stored, one row for each entity.

use super::{Actor, Applied, Catalog, Outcome};
use crate::{
    client_quota::{QuotaEntity, QuotaKind, QuotaName, QuotaValues},
    event::Refusal,
    store::{Table, keys::catalog as keys, values::admin as rows},
};

/// A quota is found by the names in it, so these are bounded, as is everything that is named on the wire.
const NAME_MAX: usize = 255;

impl Catalog {
    /// Sets and, without a value, removes limits of an entity; for administrators.
    pub(super) fn alter_client_quota(
        &mut self,
        by: &Actor,
        entity: &QuotaEntity,
        changes: &[(QuotaKind, Option<f64>)],
        validate_only: bool,
    ) -> Result<Applied, Refusal> {
        self.may_set_up(by, false)?;
        check(entity)?;
        let mut values: QuotaValues = self
            .routes
            .client_quotas()
            .get(entity)
            .cloned()
            .unwrap_or_default();
        for (kind, value) in changes {
            values.retain(|(known, _)| known != kind);
            if let Some(value) = value {
                if !(value.is_finite() && *value > 0.0) {
                    let text = format!("Quota {} must be greater than 0", kind.name());
                    return Err(Refusal::Invalid(text.into()));
                }
                values.push((*kind, *value));
            }
        }
        values.sort_unstable_by_key(|(kind, _)| *kind);
        if validate_only {
            return Ok(Outcome::Ok.into());
        }
        let mut applied = Applied::default();
        let key = keys::client_quota(entity);
        match values.is_empty() {
            true => applied.batch.delete(Table::Catalog, key),
            false => {
                let row = rows::write_client_quota(entity, &values);
                applied.batch.put(Table::Catalog, key, row);
            }
        }
        self.routes_mut().put_client_quota(entity.clone(), values);
        Ok(applied)
    }
}

fn check(entity: &QuotaEntity) -> Result<(), Refusal> {
    let names = [&entity.user, &entity.client];
    if names.iter().all(|name| name.is_none()) {
        return Err(Refusal::Invalid("Invalid empty client quota entity".into()));
    }
    let is_bad = |name: &&QuotaName| matches!(name, QuotaName::Of(name) if name.is_empty() || name.len() > NAME_MAX);
    match names.into_iter().flatten().find(is_bad) {
        Some(_) => Err(Refusal::Invalid(
            format!("names in a quota have 1 to {NAME_MAX} bytes").into(),
        )),
        None => Ok(()),
    }
}
