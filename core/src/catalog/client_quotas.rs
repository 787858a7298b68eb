//! Quotas of clients: set, changed and stored, one row for each entity.

use super::{Actor, Applied, Catalog};
use crate::{
    client_quota::{QuotaEntity, QuotaKind, QuotaName, QuotaValues},
    definitions::ClientQuotaDefinition,
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
        let mut values: QuotaValues = self
            .routes
            .client_quotas()
            .get(entity)
            .cloned()
            .unwrap_or_default();
        for (kind, value) in changes {
            check(entity, *kind, *value)?;
            values.retain(|(known, _)| known != kind);
            values.extend(value.map(|value| (*kind, value)));
        }
        check_names(entity)?;
        let mut applied = Applied::default();
        if !validate_only {
            self.put_client_quota(entity, values, &mut applied);
        }
        Ok(applied)
    }

    /// Takes a quota of definitions, in place of what the entity had.
    pub(super) fn import_client_quota(
        &mut self,
        definition: &ClientQuotaDefinition,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        let ClientQuotaDefinition { entity, limits } = definition;
        check_names(entity)?;
        for (kind, limit) in limits {
            check(entity, *kind, Some(*limit))?;
        }
        self.put_client_quota(entity, limits.clone(), applied);
        Ok(())
    }

    fn put_client_quota(
        &mut self,
        entity: &QuotaEntity,
        mut values: QuotaValues,
        applied: &mut Applied,
    ) {
        values.sort_unstable_by_key(|(kind, _)| *kind);
        let key = keys::client_quota(entity);
        match values.is_empty() {
            true => applied.batch.delete(Table::Catalog, key),
            false => {
                let row = rows::write_client_quota(entity, &values);
                applied.batch.put(Table::Catalog, key, row);
            }
        }
        self.routes_mut().put_client_quota(entity.clone(), values);
    }
}

/// Whether an entity may have such a limit, with the texts of Kafka's controller.
fn check(entity: &QuotaEntity, kind: QuotaKind, value: Option<f64>) -> Result<(), Refusal> {
    let name = kind.name();
    if (kind == QuotaKind::Connect) != entity.address.is_some() {
        return Err(Refusal::Invalid(
            format!("Invalid configuration key {name}").into(),
        ));
    }
    match value {
        Some(value) if !(value.is_finite() && value > 0.0) => Err(Refusal::Invalid(
            format!("Quota {name} must be greater than 0").into(),
        )),
        _ => Ok(()),
    }
}

fn check_names(entity: &QuotaEntity) -> Result<(), Refusal> {
    if entity.address.is_some() && (entity.user.is_some() || entity.client.is_some()) {
        return Err(Refusal::Invalid(
            "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId".into(),
        ));
    }
    let names = [&entity.user, &entity.client, &entity.address];
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
