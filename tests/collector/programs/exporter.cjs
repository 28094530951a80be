// Send spans and log records by OpenTelemetry's JavaScript exporters: reads what and where as JSON from standard input,
// prints what each export came to. Packages are looked for in NODE_PATH.
"use strict";
const { context, trace } = require("@opentelemetry/api");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { BatchLogRecordProcessor, LoggerProvider } = require("@opentelemetry/sdk-logs");
const { BatchSpanProcessor, NodeTracerProvider } = require("@opentelemetry/sdk-trace-node");

const PACKAGES = { "http/protobuf": "proto", "http/json": "http", grpc: "grpc" };

function exporter(kind, name, asked) {
  const package_ = require(`@opentelemetry/exporter-${kind}-otlp-${PACKAGES[asked.protocol]}`);
  const compression = asked.gzip ? "gzip" : "none";
  if (asked.protocol === "grpc") {
    const { Metadata } = require("@grpc/grpc-js");
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${asked.token}`);
    return new package_[name]({ url: `http://${asked.grpc}`, compression, metadata });
  }
  const path = kind === "trace" ? "traces" : "logs";
  const headers = { authorization: `Bearer ${asked.token}` };
  return new package_[name]({ url: `${asked.http}/v1/${path}`, compression, headers });
}

function watched(inner, results) {
  const send = inner.export.bind(inner);
  inner.export = (items, done) =>
    send(items, (result) => {
      results.push(result.code === 0 ? "success" : String(result.error));
      done(result);
    });
  return inner;
}

async function main(asked) {
  const results = [];
  const resource = resourceFromAttributes({ "service.name": "desk" });
  const spans = watched(exporter("trace", "OTLPTraceExporter", asked), results);
  const provider = new NodeTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(spans)] });
  const records = watched(exporter("logs", "OTLPLogExporter", asked), results);
  const logs = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: records })] });
  const tracer = provider.getTracer("desk");
  const root = tracer.startSpan(asked.spans[0].name, { attributes: asked.spans[0].attributes });
  for (const { name, attributes } of asked.spans.slice(1)) {
    tracer.startSpan(name, { attributes }, trace.setSpan(context.active(), root)).end();
  }
  root.end();
  for (const { name, attributes } of asked.logs) logs.getLogger("desk").emit({ eventName: name, attributes });
  await Promise.all([provider.shutdown(), logs.shutdown()]);
  console.log(JSON.stringify(results));
}

main(JSON.parse(require("node:fs").readFileSync(0, "utf8")));
