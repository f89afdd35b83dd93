//! The car: drives, charges and parks in turn, and everything else follows from that.

use fleet_telemetry::proto::vehicle_data::{DetailedChargeStateValue as ChargeState, Field, ShiftState};

use super::collector::Sample;
use super::reading::Reading;

/// Seconds of a step.
const STEP: f64 = 0.5;
const MILES_PER_DEGREE: f64 = 69.0;
const RATED_MILES: f64 = 310.0;
const PACK_KWH: f64 = 75.0;
/// Energy of a mile.
const KWH_PER_MILE: f64 = 0.25;

/// A car's state. Units are those that vehicles send: miles, miles per hour, percent, degrees Celsius, bar.
#[derive(Debug)]
pub struct Car {
    rng: fastrand::Rng,
    activity: Activity,
    /// Seconds until the next activity.
    remaining: f64,
    latitude: f64,
    longitude: f64,
    /// Degrees, 0 is north.
    heading: f64,
    speed: f64,
    target_speed: f64,
    acceleration: f64,
    odometer: f64,
    soc: f64,
    inside: f64,
    outside: f64,
    tyres: [f64; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    Driving,
    Charging,
    Parked,
}

impl Car {
    /// Somewhere between Palo Alto and San José.
    #[must_use]
    pub fn new(mut rng: fastrand::Rng) -> Self {
        let activity = match rng.u8(..10) {
            0..6 => Activity::Driving,
            6..8 => Activity::Charging,
            _ => Activity::Parked,
        };
        Self {
            activity,
            remaining: seconds(activity, &mut rng),
            latitude: 37.30 + 0.15 * rng.f64(),
            longitude: -122.20 + 0.30 * rng.f64(),
            heading: 360.0 * rng.f64(),
            speed: 0.0,
            target_speed: 35.0,
            acceleration: 0.0,
            odometer: 1_000.0 + 60_000.0 * rng.f64(),
            soc: 30.0 + 60.0 * rng.f64(),
            inside: 18.0 + 6.0 * rng.f64(),
            outside: 10.0 + 15.0 * rng.f64(),
            tyres: [(); 4].map(|()| 2.7 + 0.3 * rng.f64()),
            rng,
        }
    }

    /// Lets 500 ms pass.
    pub fn step(&mut self) {
        self.remaining -= STEP;
        match self.activity {
            Activity::Driving => self.roll(),
            Activity::Charging => self.soc = (self.soc + 11.0 / PACK_KWH * 100.0 * STEP / 3600.0).min(100.0),
            Activity::Parked => {}
        }
        let comfort = if self.activity == Activity::Driving { 21.0 } else { self.outside };
        self.inside += (comfort - self.inside) * STEP / 600.0;
        self.outside += (self.rng.f64() - 0.5) * 0.01;
        self.tyres.iter_mut().for_each(|tyre| *tyre += (self.rng.f64() - 0.5) * 0.0005);
        self.next_activity();
    }

    /// Everything that an application would ask for.
    #[must_use]
    pub fn readings(&self) -> Vec<Sample> {
        let driving = self.activity == Activity::Driving;
        let charging = self.activity == Activity::Charging;
        let [front_left, front_right, rear_left, rear_right] = self.tyres;
        let power = if charging { 11.0 } else { 0.0 };
        let readings = [
            (Field::Location, 1, Reading::Location(micro(self.latitude), micro(self.longitude))),
            (Field::VehicleSpeed, 1, Reading::Number(self.speed, 1)),
            (Field::GpsHeading, 1, Reading::Number(self.heading, 0)),
            (Field::LongitudinalAcceleration, 1, self.acceleration()),
            (Field::Gear, 1, Reading::Gear(if driving { ShiftState::D } else { ShiftState::P })),
            (Field::Odometer, 5, Reading::Number(self.odometer, 3)),
            (Field::PackCurrent, 5, Reading::Number(self.speed * -1.7 + power * 2.8, 1)),
            (Field::PackVoltage, 10, Reading::Number(350.0 + self.soc * 0.5, 1)),
            (Field::Soc, 10, Reading::Number(self.soc, 2)),
            (Field::RatedRange, 10, Reading::Number(self.soc / 100.0 * RATED_MILES, 1)),
            (Field::InsideTemp, 30, Reading::Number(self.inside, 1)),
            (Field::OutsideTemp, 60, Reading::Number(self.outside, 1)),
            (Field::TpmsPressureFl, 60, Reading::Number(front_left, 3)),
            (Field::TpmsPressureFr, 60, Reading::Number(front_right, 3)),
            (Field::TpmsPressureRl, 60, Reading::Number(rear_left, 3)),
            (Field::TpmsPressureRr, 60, Reading::Number(rear_right, 3)),
            (Field::DetailedChargeState, 1, Reading::Charge(self.charge_state())),
            (Field::AcChargingPower, 5, Reading::Number(power, 1)),
            (Field::DoorState, 1, Reading::Doors { driver: self.is_boarding(), trunk: false }),
            (Field::Locked, 1, Reading::Flag(!driving && !self.is_boarding())),
            (Field::CruiseSetSpeed, 1, Reading::Whole(self.cruise())),
        ];
        readings.map(|(field, interval_seconds, reading)| Sample { field, reading, interval_seconds }).into()
    }

    fn roll(&mut self) {
        if self.rng.u8(..40) == 0 {
            self.target_speed = [0.0, 25.0, 35.0, 45.0, 65.0][self.rng.usize(..5)];
        }
        // The last seconds of a drive are for stopping.
        let target = if self.remaining < 12.0 { 0.0 } else { self.target_speed };
        let before = self.speed;
        self.speed += (target - self.speed).clamp(-4.0, 3.0) + if target > 0.0 { self.rng.f64() - 0.5 } else { 0.0 };
        self.speed = self.speed.max(0.0);
        self.acceleration = (self.speed - before) * 0.447 / STEP;
        self.heading = (self.heading + (self.rng.f64() - 0.5) * 8.0).rem_euclid(360.0);
        let miles = self.speed * STEP / 3600.0;
        let (east, north) = self.heading.to_radians().sin_cos();
        self.latitude += north * miles / MILES_PER_DEGREE;
        self.longitude += east * miles / (MILES_PER_DEGREE * self.latitude.to_radians().cos());
        self.odometer += miles;
        self.soc = (self.soc - miles * KWH_PER_MILE / PACK_KWH * 100.0).max(0.0);
    }

    /// A car goes on driving unless it is low, and charges only until it is full.
    fn next_activity(&mut self) {
        let done = self.remaining <= 0.0 || (self.activity == Activity::Charging && self.soc >= 90.0);
        if !done {
            return;
        }
        self.speed = 0.0;
        self.acceleration = 0.0;
        self.activity = match self.activity {
            Activity::Driving if self.soc < 40.0 => Activity::Charging,
            Activity::Driving => Activity::Parked,
            Activity::Charging | Activity::Parked => Activity::Driving,
        };
        self.remaining = seconds(self.activity, &mut self.rng);
    }

    /// The driver's door is open for the first or last seconds of a stop.
    fn is_boarding(&self) -> bool {
        self.activity != Activity::Driving && self.remaining < 5.0
    }

    fn charge_state(&self) -> ChargeState {
        match self.activity {
            Activity::Charging => ChargeState::DetailedChargeStateCharging,
            Activity::Driving | Activity::Parked => ChargeState::DetailedChargeStateDisconnected,
        }
    }

    fn cruise(&self) -> i32 {
        if self.speed > 40.0 && self.target_speed > 40.0 { self.target_speed as i32 } else { 0 }
    }

    /// A car at rest still measures the slope it stands on, down to the sensor's noise.
    fn acceleration(&self) -> Reading {
        if self.acceleration == 0.0 {
            Reading::Tiny(1.192_092_895_507_812_5e-5)
        } else {
            Reading::Number(self.acceleration, 2)
        }
    }
}

fn seconds(activity: Activity, rng: &mut fastrand::Rng) -> f64 {
    let (least, spread) = match activity {
        Activity::Driving => (90.0, 300.0),
        Activity::Charging => (60.0, 240.0),
        Activity::Parked => (20.0, 60.0),
    };
    least + spread * rng.f64()
}

/// Six decimals of a degree are 11 cm, which is what vehicles send.
fn micro(degrees: f64) -> f64 {
    (degrees * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_charges_and_parks_within_the_possible() {
        let mut car = Car::new(fastrand::Rng::with_seed(11));
        let mut seen = Vec::new();
        let mut odometer = car.odometer;
        for _ in 0..50_000 {
            car.step();
            if !seen.contains(&car.activity) {
                seen.push(car.activity);
            }
            assert!((0.0..=100.0).contains(&car.soc) && (0.0..120.0).contains(&car.speed), "{car:?}");
            assert!(car.odometer >= odometer, "an odometer never runs back");
            odometer = car.odometer;
            assert!(car.activity == Activity::Driving || car.speed == 0.0, "only a driving car moves");
        }
        assert_eq!(seen.len(), 3, "{seen:?}");
    }
}
