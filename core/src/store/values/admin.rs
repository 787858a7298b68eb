//! Rows of what an administrator sets up: users, vhosts, permissions, policies, parameters.

use std::sync::Arc;

use super::{Bytes, Reader, StoreError, Writer};
use crate::{
    access::{HashAlgorithm, PasswordHash, Permission, Scram, ScramKeys, TopicPermission, User},
    client_quota::{QuotaEntity, QuotaKind, QuotaName, QuotaValues},
    definitions::{
        ParameterDefinition, PermissionDefinition, PolicyDefinition, TopicPermissionDefinition,
        VhostDefinition,
    },
    properties::Text,
};

const FORMAT: u8 = 1;

pub(crate) fn write_user(user: &User) -> Bytes {
    let mut writer = Writer::new(FORMAT);
    writer.text(&user.name);
    writer.option(user.password.as_ref(), |writer, hash| {
        writer.text(hash.algorithm().name());
        writer.bytes(hash.salted());
    });
    writer.list(&user.tags, |writer, tag| writer.text(tag));
    writer.list(&user.limits, |writer, (name, value)| {
        writer.text(name);
        writer.varint(*value as u64);
    });
    writer.option(user.scram.as_deref(), |writer, scram| {
        for keys in [&scram.sha256, &scram.sha512] {
            writer.bytes(&keys.salt);
            writer.varint(keys.iterations.into());
            writer.bytes(&keys.stored_key);
            writer.bytes(&keys.server_key);
        }
    });
    writer.done()
}

pub(crate) fn read_user(value: Bytes) -> Result<User, StoreError> {
    let mut reader = Reader::new(value, FORMAT)?;
    let name = reader.text()?;
    let password = reader.option(|reader| {
        let algorithm = reader.text()?;
        let salted = reader.bytes()?;
        HashAlgorithm::named(&algorithm)
            .and_then(|algorithm| PasswordHash::new(algorithm, salted))
            .ok_or_else(|| StoreError::Corrupt(format!("password hash of {algorithm}").into()))
    })?;
    let tags = reader.list(Reader::text)?;
    let limits = reader.list(|reader| Ok((reader.text()?, reader.varint()? as i64)))?;
    let scram = reader.option(|reader| {
        let (sha256, sha512) = (read_keys(reader)?, read_keys(reader)?);
        Ok(Arc::new(Scram { sha256, sha512 }))
    })?;
    Ok(User {
        name,
        password,
        tags,
        limits,
        scram,
    })
}

fn read_keys(reader: &mut Reader) -> Result<ScramKeys, StoreError> {
    Ok(ScramKeys {
        salt: reader.bytes()?,
        iterations: u32::try_from(reader.varint()?)
            .map_err(|_| StoreError::Corrupt("number of iterations is out of range".into()))?,
        stored_key: reader.bytes()?,
        server_key: reader.bytes()?,
    })
}

/// Of quotas of addresses, which are behind the rest.
const ADDRESS_QUOTA_FORMAT: u8 = 2;

pub(crate) fn write_client_quota(entity: &QuotaEntity, values: &QuotaValues) -> Bytes {
    let address = entity.address.as_ref();
    let mut writer = Writer::new(address.map_or(FORMAT, |_| ADDRESS_QUOTA_FORMAT));
    let write_name = |writer: &mut Writer, name: &QuotaName| {
        let name = match name {
            QuotaName::Of(name) => Some(name),
            QuotaName::Default => None,
        };
        writer.option(name, |writer, name| writer.text(name));
    };
    for name in [&entity.user, &entity.client] {
        writer.option(name.as_ref(), write_name);
    }
    writer.list(values, |writer, (kind, limit)| {
        writer.text(kind.name());
        writer.varint(limit.to_bits());
    });
    if let Some(address) = address {
        write_name(&mut writer, address);
    }
    writer.done()
}

/// Limits of kinds that this program does not know are left out.
pub(crate) fn read_client_quota(value: Bytes) -> Result<(QuotaEntity, QuotaValues), StoreError> {
    let (format, mut reader) = Reader::versioned(value, ADDRESS_QUOTA_FORMAT)?;
    let read_name = |reader: &mut Reader| {
        let name = reader.option(Reader::text)?;
        Ok(name.map_or(QuotaName::Default, QuotaName::Of))
    };
    let (user, client) = (reader.option(read_name)?, reader.option(read_name)?);
    let values = reader.list(|reader| Ok((reader.text()?, f64::from_bits(reader.varint()?))))?;
    let known = |(name, limit): (Text, f64)| Some((QuotaKind::named(&name)?, limit));
    let address = match format {
        FORMAT => None,
        _ => Some(read_name(&mut reader)?),
    };
    let entity = QuotaEntity {
        user,
        client,
        address,
    };
    Ok((entity, values.into_iter().filter_map(known).collect()))
}

pub(crate) fn write_vhost(vhost: &VhostDefinition) -> Bytes {
    let mut writer = Writer::new(FORMAT);
    writer.text(&vhost.name);
    writer.text(&vhost.description);
    writer.list(&vhost.tags, |writer, tag| writer.text(tag));
    writer.option(vhost.default_queue_type.as_ref(), |writer, kind| {
        writer.text(kind)
    });
    writer.done()
}

pub(crate) fn read_vhost(value: Bytes) -> Result<VhostDefinition, StoreError> {
    let mut reader = Reader::new(value, FORMAT)?;
    Ok(VhostDefinition {
        name: reader.text()?,
        description: reader.text()?,
        tags: reader.list(Reader::text)?,
        default_queue_type: reader.option(Reader::text)?,
    })
}

pub(crate) fn write_permission(definition: &PermissionDefinition) -> Bytes {
    let mut writer = Writer::new(FORMAT);
    writer.text(&definition.vhost);
    writer.text(&definition.user);
    writer.text(&definition.permission.configure);
    writer.text(&definition.permission.write);
    writer.text(&definition.permission.read);
    writer.done()
}

pub(crate) fn read_permission(value: Bytes) -> Result<PermissionDefinition, StoreError> {
    let mut reader = Reader::new(value, FORMAT)?;
    Ok(PermissionDefinition {
        vhost: reader.text()?,
        user: reader.text()?,
        permission: Permission {
            configure: reader.text()?,
            write: reader.text()?,
            read: reader.text()?,
        },
    })
}

pub(crate) fn write_topic_permission(definition: &TopicPermissionDefinition) -> Bytes {
    let mut writer = Writer::new(FORMAT);
    writer.text(&definition.vhost);
    writer.text(&definition.user);
    writer.text(&definition.exchange);
    writer.text(&definition.permission.write);
    writer.text(&definition.permission.read);
    writer.done()
}

pub(crate) fn read_topic_permission(value: Bytes) -> Result<TopicPermissionDefinition, StoreError> {
    let mut reader = Reader::new(value, FORMAT)?;
    Ok(TopicPermissionDefinition {
        vhost: reader.text()?,
        user: reader.text()?,
        exchange: reader.text()?,
        permission: TopicPermission {
            write: reader.text()?,
            read: reader.text()?,
        },
    })
}

pub(crate) fn write_policy(policy: &PolicyDefinition) -> Bytes {
    let mut writer = Writer::new(FORMAT);
    writer.text(&policy.vhost);
    writer.text(&policy.name);
    writer.bool(policy.operator);
    writer.text(&policy.pattern);
    writer.text(&policy.apply_to);
    writer.varint(policy.priority as u64);
    writer.table(&policy.definition);
    writer.done()
}

pub(crate) fn read_policy(value: Bytes) -> Result<PolicyDefinition, StoreError> {
    let mut reader = Reader::new(value, FORMAT)?;
    Ok(PolicyDefinition {
        vhost: reader.text()?,
        name: reader.text()?,
        operator: reader.bool()?,
        pattern: reader.text()?,
        apply_to: reader.text()?,
        priority: reader.varint()? as i64,
        definition: reader.table()?,
    })
}

pub(crate) fn write_parameter(parameter: &ParameterDefinition) -> Bytes {
    let mut writer = Writer::new(FORMAT);
    writer.option(parameter.vhost.as_ref(), |writer, vhost| writer.text(vhost));
    writer.text(&parameter.component);
    writer.text(&parameter.name);
    writer.value(&parameter.value);
    writer.done()
}

pub(crate) fn read_parameter(value: Bytes) -> Result<ParameterDefinition, StoreError> {
    let mut reader = Reader::new(value, FORMAT)?;
    Ok(ParameterDefinition {
        vhost: reader.option(Reader::text)?,
        component: reader.text()?,
        name: reader.text()?,
        value: reader.value()?,
    })
}
