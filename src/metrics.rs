//! The process' metrics: the recorder that every stage registers with, and its Prometheus form.
