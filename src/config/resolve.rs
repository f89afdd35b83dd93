//! From what operators write to what the server runs with: defaults, limits, and every error at once.

use super::error::{ConfigError, Problems, Warning};
use super::{
    Config, DispatcherName, Env, admin, dispatchers, file, http, kafka, listener, log, mqtt, onboarding, permissions,
    policy, ports, redis, routes, session, shutdown, tls, workers,
};

/// Tracked VINs, at most; each is a metric label.
const MAX_TRACKED_VINS: usize = 20;

/// Fills in defaults and checks everything.
///
/// # Errors
/// All mistakes, those found while reading the file first. Warnings found on the way come with them.
pub fn resolve(file: file::FileConfig, env: &Env) -> Result<(Config, Vec<Warning>), Problems> {
    let (config, problems) = resolve_with_mistakes(file, env);
    if problems.errors.is_empty() { Ok((config, problems.warnings)) } else { Err(problems) }
}

/// With the defaults where something is wrong.
pub(super) fn resolve_with_mistakes(mut file: file::FileConfig, env: &Env) -> (Config, Problems) {
    let mut problems = std::mem::take(&mut file.problems);
    if let Some(kafka) = &mut file.kafka {
        kafka::take_from_env(kafka, env, &mut problems);
    }
    let confirms = |name| match name {
        DispatcherName::Kafka => kafka::confirms(&file),
        DispatcherName::Mqtt => mqtt::confirms(&file),
        DispatcherName::Redis => redis::confirms(&file),
        _ => true,
    };
    let routes = routes::resolve(&file.routes, confirms, &mut problems);
    let tls = tls::resolve(file.tls.as_ref(), file.use_default_eng_ca, &mut problems);
    let uses = |name| routes.iter().any(|route| route.dispatchers.contains(&name));
    let permissions_use_kafka = file.permissions.as_ref().is_some_and(file::FilePermissions::uses_kafka);
    let kafka = kafka::resolve(&file, uses(DispatcherName::Kafka) || permissions_use_kafka, &routes, &mut problems);
    let permissions = file.permissions.as_ref().map(|section| {
        let topics = permissions::Topics { namespace: file.namespace.as_deref().unwrap_or_default(), routes: &routes };
        permissions::resolve(section, kafka.as_ref().filter(|_| permissions_use_kafka), &topics, &mut problems)
    });
    let onboarding = file.onboarding.as_ref().map(|section| onboarding::resolve(section, &tls, env, &mut problems));
    let config = Config {
        listener: listener::resolve(&file.listener, &file.limits, tls, &mut problems),
        session: session::resolve(&file.limits.session, file.connection_id_from_header.unwrap_or(true), &mut problems),
        policy: policy::resolve(&file.policy, &mut problems),
        dispatchers: dispatchers::resolve(&file, &routes, kafka, env, &mut problems),
        routes,
        admin: admin::resolve(&file.admin, &mut problems),
        http: http::resolve(&file.limits.http, &mut problems),
        log: log::resolve(&file.log, &file.limits.log, env, &mut problems),
        shutdown: shutdown::resolve(&file.shutdown, &mut problems),
        workers: workers::resolve(&file.workers, &mut problems),
        permissions,
        onboarding,
    };
    ports::check(&config, &mut problems);
    log::judge_level(&config.log, &config.routes, &mut problems);
    tracked_vins(&file.vins_signal_tracking_enabled, &mut problems);
    (config, problems)
}

fn tracked_vins(vins: &[String], problems: &mut Problems) {
    let unique: std::collections::BTreeSet<_> = vins.iter().collect();
    if unique.len() > MAX_TRACKED_VINS {
        problems.error(ConfigError::TooManyTrackedVins);
    } else if !unique.is_empty() {
        let why = "this build does not count signals per VIN";
        problems.warn(Warning::NoEffect { key: "vins_signal_tracking_enabled".to_owned(), why });
    }
}
