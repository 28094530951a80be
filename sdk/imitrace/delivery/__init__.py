"""Bring records to the collector: queue, disk, OTLP over HTTP and gRPC."""
