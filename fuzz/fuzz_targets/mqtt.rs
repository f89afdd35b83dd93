#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fleet_telemetry_fuzz::brokers::mqtt(input));
