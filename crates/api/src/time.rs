//! Times as Kubernetes writes them (RFC 3339, whole seconds) and as the rest of Claviger counts
//! them (seconds since the Unix epoch).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// The moment `seconds` after the Unix epoch. Beyond what RFC 3339 can say (years -9999 to 9999)
/// it is the nearest moment that can be said.
pub fn from_seconds(seconds: i64) -> Time {
    let nearest = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Time(Timestamp::from_second(seconds).unwrap_or(nearest))
}

/// Seconds since the Unix epoch, rounded toward zero.
pub fn to_seconds(time: &Time) -> i64 {
    time.0.as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_survive_the_way_through_json() {
        let time = from_seconds(1_767_225_600);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2026-01-01T00:00:00Z\"");
        let back: Time = serde_json::from_str(&json).unwrap();
        assert_eq!(to_seconds(&back), 1_767_225_600);
    }

    #[test]
    fn unsayable_moments_become_the_nearest() {
        assert_eq!(from_seconds(i64::MAX).0, Timestamp::MAX);
        assert_eq!(from_seconds(i64::MIN).0, Timestamp::MIN);
    }
}
