//! What Home Assistant is told about each field: what it measures, in which unit the vehicle sends it, and how its value
//! is read from the JSON.

use crate::proto::vehicle_data::Field;

/// How a field appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entity {
    /// A number with a unit; `class` is empty where Home Assistant has none.
    Measured { class: &'static str, unit: &'static str, state: State },
    /// Yes or no; `class` is empty where Home Assistant has none.
    Binary { class: &'static str },
    /// Home Assistant calls a lock that is open "on".
    Lock,
    /// Six doors, each yes or no.
    Doors,
    /// A place.
    Place,
    /// Tires that warn.
    Tires,
    /// Whatever it is: a name, a state, a number of which the unit is not known.
    Plain,
    /// Not announced: it says nothing.
    Nothing,
}

/// What statistics make of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A value of the moment.
    Measurement,
    /// A sum that only grows, but for resets.
    Growing,
    /// Neither: nothing that averages make sense of.
    Unclassed,
}

const fn measured(class: &'static str, unit: &'static str) -> Entity {
    Entity::Measured { class, unit, state: State::Measurement }
}

const fn growing(class: &'static str, unit: &'static str) -> Entity {
    Entity::Measured { class, unit, state: State::Growing }
}

const fn unclassed(class: &'static str, unit: &'static str) -> Entity {
    Entity::Measured { class, unit, state: State::Unclassed }
}

/// Units are those of the vehicle, whatever its display shows: miles and miles per hour, degrees Celsius, bar.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn entity(field: Field) -> Entity {
    use Field as F;
    match field {
        F::VehicleSpeed
        | F::CurrentLimitMph
        | F::CruiseSetSpeed
        | F::ChargeRateMilePerHour
        | F::MaxSpeedToReachDestinationMph
        | F::SemiCruiseSpeedLimitMph => measured("speed", "mph"),
        F::Odometer => growing("distance", "mi"),
        F::RatedRange
        | F::EstBatteryRange
        | F::IdealBatteryRange
        | F::MilesToArrival
        | F::MilesSinceReset
        | F::SelfDrivingMilesSinceReset => measured("distance", "mi"),
        F::GpsAccuracyMeters => measured("distance", "m"),
        F::InsideTemp
        | F::OutsideTemp
        | F::HvacLeftTemperatureRequest
        | F::HvacRightTemperatureRequest
        | F::ModuleTempMax
        | F::ModuleTempMin
        | F::DiHeatsinkTr
        | F::DiHeatsinkTf
        | F::DiHeatsinkTrel
        | F::DiHeatsinkTrer
        | F::DiStatorTempR
        | F::DiStatorTempF
        | F::DiStatorTempRel
        | F::DiStatorTempRer
        | F::DiInverterTr
        | F::DiInverterTf
        | F::DiInverterTrel
        | F::DiInverterTrer => measured("temperature", "°C"),
        F::TpmsPressureFl
        | F::TpmsPressureFr
        | F::TpmsPressureRl
        | F::TpmsPressureRr
        | F::SemitruckTpmsPressureRe1L0
        | F::SemitruckTpmsPressureRe1L1
        | F::SemitruckTpmsPressureRe1R0
        | F::SemitruckTpmsPressureRe1R1
        | F::SemitruckTpmsPressureRe2L0
        | F::SemitruckTpmsPressureRe2L1
        | F::SemitruckTpmsPressureRe2R0
        | F::SemitruckTpmsPressureRe2R1 => measured("pressure", "bar"),
        F::PackVoltage
        | F::BrickVoltageMax
        | F::BrickVoltageMin
        | F::ChargerVoltage
        | F::DiVBatR
        | F::DiVBatF
        | F::DiVBatRel
        | F::DiVBatRer => measured("voltage", "V"),
        F::PackCurrent
        | F::ChargeAmps
        | F::ChargeCurrentRequest
        | F::ChargeCurrentRequestMax
        | F::DiMotorCurrentR
        | F::DiMotorCurrentF
        | F::DiMotorCurrentRel
        | F::DiMotorCurrentRer => measured("current", "A"),
        F::DcChargingPower | F::AcChargingPower | F::PowershareInstantaneousPowerKw => measured("power", "kW"),
        F::DcChargingEnergyIn
        | F::AcChargingEnergyIn
        | F::LifetimeEnergyUsed
        | F::LifetimeEnergyUsedDrive
        | F::LifetimeEnergyGainedRegen
        | F::LifetimeEnergyChargedKwh => growing("energy", "kWh"),
        F::EnergyRemaining | F::NominalFullPackEnergyKwh => measured("energy_storage", "kWh"),
        F::Soc | F::BatteryLevel => measured("battery", "%"),
        F::ChargeLimitSoc
        | F::BrickSocMinPercent
        | F::PedalPosition
        | F::BrakePedalPos
        | F::ExpectedEnergyPercentAtTripArrival
        | F::TonneauOpenPercent
        | F::SoftwareUpdateDownloadPercentComplete
        | F::SoftwareUpdateInstallationPercentComplete
        | F::GradeEstimatePercent => measured("", "%"),
        F::TimeToFullCharge | F::EstimatedHoursToChargeTermination | F::PowershareHoursLeft => {
            unclassed("duration", "h")
        }
        F::MinutesToArrival | F::RouteTrafficMinutesDelay | F::SoftwareUpdateExpectedDurationMinutes => {
            unclassed("duration", "min")
        }
        F::GpsHeading => unclassed("", "°"),
        F::DiAxleSpeedR | F::DiAxleSpeedF | F::DiAxleSpeedRel | F::DiAxleSpeedRer => measured("", "rpm"),
        F::DiTorquemotor
        | F::DiSlaveTorqueCmd
        | F::DiTorqueActualR
        | F::DiTorqueActualF
        | F::DiTorqueActualRel
        | F::DiTorqueActualRer => measured("", "N⋅m"),
        F::BatteryHeaterOn => Entity::Binary { class: "heat" },
        F::ChargePortDoorOpen => Entity::Binary { class: "opening" },
        F::DriverSeatOccupied => Entity::Binary { class: "occupancy" },
        F::SoftwareUpdateAvailable => Entity::Binary { class: "update" },
        F::SoftwareUpdateInProgress | F::RemoteStartActive => Entity::Binary { class: "running" },
        F::LocatedAtHome | F::LocatedAtWork | F::LocatedAtFavorite => Entity::Binary { class: "presence" },
        F::LightsHazardsActive | F::LightsHighBeams => Entity::Binary { class: "light" },
        F::BmsFullchargecomplete
        | F::BrakePedal
        | F::GpsState
        | F::FastChargerPresent
        | F::ScheduledChargingPending
        | F::PreconditioningEnabled
        | F::ChargeEnableRequest
        | F::ChargePortColdWeatherMode
        | F::NotEnoughPowerToHeat
        | F::SuperchargerSessionTripPlanner
        | F::SpeedLimitMode
        | F::AutoSeatClimateLeft
        | F::AutoSeatClimateRight
        | F::GuestModeEnabled
        | F::PinToDriveEnabled
        | F::AutomaticBlindSpotCamera
        | F::BlindSpotCollisionWarningChime
        | F::EmergencyLaneDepartureAvoidance
        | F::AutomaticEmergencyBrakingOff
        | F::ServiceMode
        | F::DefrostForPreconditioning
        | F::EuropeVehicle
        | F::HomelinkNearby
        | F::HvacAcEnabled
        | F::HvacSteeringWheelHeatAuto
        | F::OffroadLightbarPresent
        | F::RearDisplayHvacEnabled
        | F::RemoteStartEnabled
        | F::RightHandDrive
        | F::Setting24HourTime
        | F::ValetModeEnabled
        | F::WiperHeatEnabled
        | F::SeatVentEnabled
        | F::RearDefrostEnabled => Entity::Binary { class: "" },
        F::Locked => Entity::Lock,
        F::DoorState => Entity::Doors,
        F::Location | F::OriginLocation | F::DestinationLocation => Entity::Place,
        F::TpmsHardWarnings | F::TpmsSoftWarnings => Entity::Tires,
        F::Unknown | F::Deprecated1 | F::Deprecated2 | F::Deprecated3 => Entity::Nothing,
        _ => Entity::Plain,
    }
}
