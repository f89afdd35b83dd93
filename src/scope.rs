//! What can be granted, and which fields belong to it.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use crate::proto::vehicle_data::Field;

/// A scope, named as the vehicle maker names it where it does; the data groups beyond location are ours.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Display, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Scope {
    /// Where the vehicle is, was or is going.
    VehicleLocation,
    /// Charging and energy.
    Charging,
    /// Climate.
    Climate,
    /// What is played.
    Media,
    /// Locks, doors, sentry, keys.
    Security,
    /// How it is driven.
    Driving,
}

impl Scope {
    /// As the configuration, the API and the metrics spell it.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// Every one.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::VARIANTS.iter().copied()
    }

    /// By its exact name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u32);

impl Scopes {
    /// Every scope.
    pub const ALL: Self = Self(u32::MAX);
    /// None.
    pub const NONE: Self = Self(0);

    /// With `scope` in it.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u32)
    }

    /// Whether `scope` is in it.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u32 != 0
    }

    /// What both have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The scopes that field number `key` of a datum belongs to, none for most. `None`: the number is not known,
/// which 0 counts as, since it says nothing about what the datum is.
///
/// `strict` adds what reveals a place indirectly: how far the destination is, whether the owner's garage is near.
#[must_use]
pub fn of(key: i32, strict: bool) -> Option<Scopes> {
    let member = usize::try_from(key).ok().filter(|key| *key != 0).and_then(|key| FIELDS.get(key))?;
    Some(if strict { member.strict } else { member.plain })
}

/// One more than the greatest field number.
pub(crate) const FIELD_COUNT: usize = Field::Cabin48vPortKeepOn as usize + 1;

/// By field number.
static FIELDS: [Member; FIELD_COUNT] = {
    let mut table = [Member { plain: Scopes::NONE, strict: Scopes::NONE }; FIELD_COUNT];
    let mut group = 0;
    while group < GROUPS.len() {
        let (scope, is_strict, fields) = GROUPS[group];
        let mut at = 0;
        while at < fields.len() {
            let member = &mut table[fields[at] as usize];
            member.strict = member.strict.with(scope);
            if !is_strict {
                member.plain = member.plain.with(scope);
            }
            at += 1;
        }
        group += 1;
    }
    table
};

#[derive(Clone, Copy)]
struct Member {
    plain: Scopes,
    strict: Scopes,
}

/// Scope, whether only in strict mode, fields. `LocatedAtHome`, `LocatedAtWork` and `LocatedAtFavorite` are in
/// none: they are how an application learns "at home" without the permission.
const GROUPS: [(Scope, bool, &[Field]); 7] = [
    (Scope::VehicleLocation, false, &LOCATION),
    (Scope::VehicleLocation, true, &REVEALS_LOCATION),
    (Scope::Charging, false, CHARGING),
    (Scope::Climate, false, CLIMATE),
    (Scope::Media, false, MEDIA),
    (Scope::Security, false, SECURITY),
    (Scope::Driving, false, DRIVING),
];

/// What the vehicle maker documents as needing the scope `vehicle_location`.
const LOCATION: [Field; 7] = [
    Field::Location,
    Field::GpsState,
    Field::GpsHeading,
    Field::RouteLine,
    Field::OriginLocation,
    Field::DestinationLocation,
    Field::DestinationName,
];

/// What narrows down where the vehicle is or is going.
const REVEALS_LOCATION: [Field; 7] = [
    Field::RouteLastUpdated,
    Field::MilesToArrival,
    Field::MinutesToArrival,
    Field::ExpectedEnergyPercentAtTripArrival,
    Field::HomelinkNearby,
    Field::RouteTrafficMinutesDelay,
    Field::GpsAccuracyMeters,
];

const CHARGING: &[Field] = &[
    Field::ChargeState,
    Field::BmsFullchargecomplete,
    Field::Soc,
    Field::RatedRange,
    Field::DcChargingEnergyIn,
    Field::DcChargingPower,
    Field::AcChargingEnergyIn,
    Field::AcChargingPower,
    Field::ChargeLimitSoc,
    Field::FastChargerPresent,
    Field::EstBatteryRange,
    Field::IdealBatteryRange,
    Field::BatteryLevel,
    Field::TimeToFullCharge,
    Field::ScheduledChargingStartTime,
    Field::ScheduledChargingPending,
    Field::ScheduledDepartureTime,
    Field::ScheduledChargingMode,
    Field::ChargeAmps,
    Field::ChargeEnableRequest,
    Field::ChargerPhases,
    Field::ChargePortColdWeatherMode,
    Field::ChargeCurrentRequest,
    Field::ChargeCurrentRequestMax,
    Field::BatteryHeaterOn,
    Field::NotEnoughPowerToHeat,
    Field::SuperchargerSessionTripPlanner,
    Field::ChargePort,
    Field::ChargePortLatch,
    Field::EnergyRemaining,
    Field::DetailedChargeState,
    Field::ChargePortDoorOpen,
    Field::ChargerVoltage,
    Field::ChargingCableType,
    Field::EstimatedHoursToChargeTermination,
    Field::ExpectedEnergyPercentAtTripArrival,
    Field::FastChargerType,
    Field::PowershareHoursLeft,
    Field::PowershareInstantaneousPowerKw,
    Field::PowershareStatus,
    Field::PowershareStopReason,
    Field::PowershareType,
    Field::ChargeRateMilePerHour,
    Field::LifetimeEnergyChargedKwh,
    Field::BrickSocMinPercent,
    Field::NominalFullPackEnergyKwh,
];

const CLIMATE: &[Field] = &[
    Field::PreconditioningEnabled,
    Field::InsideTemp,
    Field::OutsideTemp,
    Field::SeatHeaterLeft,
    Field::SeatHeaterRight,
    Field::SeatHeaterRearLeft,
    Field::SeatHeaterRearRight,
    Field::SeatHeaterRearCenter,
    Field::AutoSeatClimateLeft,
    Field::AutoSeatClimateRight,
    Field::CabinOverheatProtectionMode,
    Field::CabinOverheatProtectionTemperatureLimit,
    Field::ClimateKeeperMode,
    Field::DefrostForPreconditioning,
    Field::DefrostMode,
    Field::HvacAcEnabled,
    Field::HvacAutoMode,
    Field::HvacFanSpeed,
    Field::HvacFanStatus,
    Field::HvacLeftTemperatureRequest,
    Field::HvacPower,
    Field::HvacRightTemperatureRequest,
    Field::HvacSteeringWheelHeatAuto,
    Field::HvacSteeringWheelHeatLevel,
    Field::RearDisplayHvacEnabled,
    Field::RearSeatHeaters,
    Field::WiperHeatEnabled,
    Field::ClimateSeatCoolingFrontLeft,
    Field::ClimateSeatCoolingFrontRight,
    Field::SeatVentEnabled,
    Field::RearDefrostEnabled,
];

const MEDIA: &[Field] = &[
    Field::CenterDisplay,
    Field::MediaPlaybackStatus,
    Field::MediaPlaybackSource,
    Field::MediaAudioVolume,
    Field::MediaNowPlayingDuration,
    Field::MediaNowPlayingElapsed,
    Field::MediaNowPlayingArtist,
    Field::MediaNowPlayingTitle,
    Field::MediaNowPlayingAlbum,
    Field::MediaNowPlayingStation,
    Field::MediaAudioVolumeIncrement,
    Field::MediaAudioVolumeMax,
];

const SECURITY: &[Field] = &[
    Field::DoorState,
    Field::Locked,
    Field::FdWindow,
    Field::FpWindow,
    Field::RdWindow,
    Field::RpWindow,
    Field::SentryMode,
    Field::DriverSeatOccupied,
    Field::GuestModeEnabled,
    Field::PinToDriveEnabled,
    Field::PairedPhoneKeyAndKeyFobQty,
    Field::GuestModeMobileAccessState,
    Field::HomelinkDeviceCount,
    Field::HomelinkNearby,
    Field::RemoteStartEnabled,
    Field::RemoteStartActive,
    Field::TonneauOpenPercent,
    Field::TonneauPosition,
    Field::TonneauTentMode,
    Field::ValetModeEnabled,
];

const DRIVING: &[Field] = &[
    Field::DriveRail,
    Field::VehicleSpeed,
    Field::Odometer,
    Field::Gear,
    Field::PedalPosition,
    Field::BrakePedal,
    Field::BrakePedalPos,
    Field::DiAxleSpeedR,
    Field::DiAxleSpeedF,
    Field::DiAxleSpeedRel,
    Field::DiAxleSpeedRer,
    Field::DiTorquemotor,
    Field::DiSlaveTorqueCmd,
    Field::DiTorqueActualR,
    Field::DiTorqueActualF,
    Field::DiTorqueActualRel,
    Field::DiTorqueActualRer,
    Field::SpeedLimitMode,
    Field::CurrentLimitMph,
    Field::DriverSeatBelt,
    Field::PassengerSeatBelt,
    Field::LateralAcceleration,
    Field::LongitudinalAcceleration,
    Field::CruiseSetSpeed,
    Field::CruiseFollowDistance,
    Field::LifetimeEnergyUsedDrive,
    Field::SemitruckTractorParkBrakeStatus,
    Field::SemitruckTrailerParkBrakeStatus,
    Field::AutomaticBlindSpotCamera,
    Field::BlindSpotCollisionWarningChime,
    Field::SpeedLimitWarning,
    Field::ForwardCollisionWarning,
    Field::LaneDepartureAvoidance,
    Field::EmergencyLaneDepartureAvoidance,
    Field::AutomaticEmergencyBrakingOff,
    Field::LightsHazardsActive,
    Field::LightsTurnSignal,
    Field::LightsHighBeams,
    Field::MilesSinceReset,
    Field::SelfDrivingMilesSinceReset,
    Field::GradeEstimatePercent,
    Field::MaxSpeedToReachDestinationMph,
    Field::SemiCruiseSpeedLimitMph,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers_in(scope: Scope, strict: bool) -> Vec<i32> {
        let is_in = |key: &i32| of(*key, strict).is_some_and(|scopes| scopes.contains(scope));
        (-1..1_000).filter(is_in).collect()
    }

    #[test]
    fn location_is_the_documented_fields_and_the_strict_ones() {
        assert_eq!(numbers_in(Scope::VehicleLocation, false), [21, 22, 23, 108, 111, 112, 163]);
        let strict = [21, 22, 23, 107, 108, 109, 110, 111, 112, 163, 192, 195, 215, 260];
        assert_eq!(numbers_in(Scope::VehicleLocation, true), strict);
    }

    #[test]
    fn the_located_at_fields_need_no_scope() {
        for key in 229..=231 {
            assert_eq!(of(key, true), Some(Scopes::NONE));
        }
    }

    #[test]
    fn the_table_knows_every_field_of_the_schema_and_no_other() {
        for key in -1..1_000 {
            assert_eq!(of(key, true).is_some(), key != 0 && Field::try_from(key).is_ok(), "{key}");
        }
        assert!(of(i32::MIN, true).is_none() && of(i32::MAX, false).is_none());
    }

    #[test]
    fn no_group_names_a_field_twice() {
        for (scope, _, fields) in GROUPS {
            let mut numbers: Vec<i32> = fields.iter().map(|field| *field as i32).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), fields.len(), "{scope}");
        }
    }

    #[test]
    fn groups_beyond_location_do_not_depend_on_strictness() {
        for &scope in Scope::VARIANTS.iter().skip(1) {
            assert!(!numbers_in(scope, false).is_empty(), "{scope}");
            assert_eq!(numbers_in(scope, false), numbers_in(scope, true), "{scope}");
        }
    }
}
