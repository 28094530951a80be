"""Tell somebody what stands against clones: drift, failed gates, lapsed evidence, cohorts that stepped back."""
