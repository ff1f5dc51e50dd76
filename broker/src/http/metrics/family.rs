//! Families of metrics, from names, help texts and samples.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Labels and a value.
pub type Sample<'a> = (Vec<(&'a str, &'a str)>, f64);

/// A name without `giostra_`, a help text and samples. A name that ends in `_total` is a counter's,
/// another a gauge's.
pub type Family<'a> = (&'static str, &'static str, Vec<Sample<'a>>);

/// Returns a counter's or a gauge's family.
pub fn family(name: &str, help: &str, samples: Vec<Sample<'_>>) -> MetricFamily {
    let kind = if name.ends_with("_total") { MetricType::COUNTER } else { MetricType::GAUGE };
    let metrics = samples.into_iter().map(|(labels, value)| {
        let mut metric = labelled(&labels);
        if kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    });
    family_of(name, help, kind, metrics.collect())
}

/// Returns a family of metrics.
pub fn family_of(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("giostra_{name}"));
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// Returns one sample without labels.
pub fn of_broker(value: f64) -> Vec<Sample<'static>> {
    vec![(Vec::new(), value)]
}

/// Returns a metric without a value.
pub fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|&(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.into());
        pair.set_value(value.into());
        pair
    });
    Metric::from_label(pairs.collect())
}
