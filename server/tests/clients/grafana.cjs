// Drives Grafana's own Prometheus data source, the npm package @grafana/prometheus, against a running server.
//
//   NODE_PATH=…/node_modules node grafana.cjs http://127.0.0.1:PORT END_SECONDS
//
// What the browser part of Grafana does is the package's own code. What its server part does (the proxy for metadata,
// and turning queries into calls of the HTTP API and answers into frames) is in `Backend` below, as Grafana's promlib
// does it. Everything of the user interface is a stub that must never be asked for anything.
//
// Prints how many calls it made; any difference from what is expected is an exception.

'use strict';

const assert = require('node:assert/strict');
const Module = require('node:module');
const [base, endText] = process.argv.slice(2);
const end = Number(endText);

// --- What a browser has.
const storage = new Map();
globalThis.window = globalThis;
globalThis.localStorage = {
  getItem: (key) => storage.get(key) ?? null,
  setItem: (key, value) => storage.set(key, String(value)),
  removeItem: (key) => storage.delete(key),
};
globalThis.location = { href: 'http://localhost/', hostname: 'localhost', search: '', pathname: '/' };
globalThis.addEventListener = () => {};

// --- Packages of the user interface.
const stub = () =>
  new Proxy(function () {}, {
    get: (target, key) => {
      if (key === '__esModule') return true;
      if (key === Symbol.toPrimitive) return () => '';
      if (key === 'prototype') return target.prototype;
      return stub();
    },
    apply: () => stub(),
    construct: () => ({}),
  });
const { Observable, from, lastValueFrom } = require('rxjs');

const calls = [];
const refused = [];

/** One call of the HTTP API, as Grafana's server forwards it. */
async function call(method, path, params, form) {
  const pairs = Object.entries(params ?? {}).filter(([, value]) => value !== undefined);
  const text = new URLSearchParams(pairs.flatMap(([k, v]) => (Array.isArray(v) ? v : [v]).map((v) => [k, String(v)])));
  const post = method === 'POST';
  const url = base + path + (post || !text.size ? '' : (path.includes('?') ? '&' : '?') + text);
  calls.push(`${method} ${path.split('?')[0]}`);
  const response = await fetch(url, {
    method,
    body: post ? text.toString() : undefined,
    headers: post ? { 'Content-Type': form ?? 'application/x-www-form-urlencoded;charset=UTF-8' } : {},
  });
  const body = await response.text();
  let data;
  try {
    data = JSON.parse(body);
  } catch {
    data = { message: body };
  }
  if (!response.ok) {
    refused.push(`${response.status} ${method} ${path}: ${body}`);
    throw { status: response.status, data, config: { url } };
  }
  return { status: response.status, data, headers: response.headers };
}

const RESOURCES = /^\/api\/datasources\/uid\/[^/]+\/resources/;
const backendSrv = {
  fetch: (options) => {
    const path = options.url.replace(RESOURCES, '');
    assert.notEqual(path, options.url, `not for this data source: ${options.url}`);
    return from(call(options.method ?? 'GET', path, options.data));
  },
};

const variables = { job: 'api', instance: ['i1', 'i2'] };
const templateSrv = {
  replace: (text, scoped = {}, format) =>
    (text ?? '').replace(/\$(\w+)|\$\{(\w+)(?::\w+)?\}|\[\[(\w+)\]\]/g, (whole, a, b, c) => {
      const name = a ?? b ?? c;
      const value = scoped?.[name]?.value ?? variables[name];
      if (value === undefined) return whole;
      return format ? format(value, { name, multi: Array.isArray(value), includeAll: false }) : String(value);
    }),
  containsTemplate: (text) => /\$|\[\[/.test(text ?? ''),
  getVariables: () => Object.keys(variables).map((name) => ({ name })),
  getAdhocFilters: () => [],
};

/** What Grafana's server does with a query: promlib's range, instant and exemplar calls, and frames of the answers. */
class Backend {
  constructor(settings) {
    this.uid = settings.uid;
    this.name = settings.name;
    this.meta = settings.meta ?? {};
  }

  getRef() {
    return { type: 'prometheus', uid: this.uid };
  }

  query(request) {
    const run = async () => {
      const targets = request.targets
        .filter((target) => this.filterQuery(target))
        .map((target) => this.applyTemplateVariables(target, request.scopedVars, request.filters));
      const frames = await Promise.all(targets.map((target) => this.frames(target, request)));
      return { data: frames.flat() };
    };
    return new Observable((observer) => {
      run().then(
        (answer) => (observer.next(answer), observer.complete()),
        (error) => observer.error(error)
      );
    });
  }

  async frames(target, request) {
    const step = Math.max(request.intervalMs / 1000, 1);
    const window = `${Math.max(4 * 15, step + 15)}s`;
    const query = target.expr
      .replaceAll('$__rate_interval', window)
      .replaceAll('$__interval_ms', String(step * 1000))
      .replaceAll('$__interval', `${step}s`)
      .replaceAll('$__range', `${request.range.to.diff(request.range.from) / 1000}s`);
    const from = request.range.from.valueOf() / 1000;
    const to = request.range.to.valueOf() / 1000;
    const all = [];
    const instant = target.instant;
    if (instant) {
      const { data } = await call('POST', '/api/v1/query', { query, time: to });
      all.push(...frames(target, data.data, query, step));
    } else {
      const aligned = (time) => Math.floor(time / step) * step;
      const params = { query, start: aligned(from), end: aligned(to), step };
      const { data } = await call('POST', '/api/v1/query_range', params);
      all.push(...frames(target, data.data, query, step));
    }
    if (target.exemplar) {
      const { data } = await call('POST', '/api/v1/query_exemplars', { query, start: from, end: to });
      all.push(...exemplars(target, data.data));
    }
    return all;
  }
}

const number = (text) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));

function frames(target, data, query, step) {
  const meta = {
    type: 'timeseries-multi',
    custom: { resultType: data.resultType },
    executedQueryString: `Expr: ${query}\nStep: ${step}s`,
  };
  const frame = (labels, points) => ({
    refId: target.refId,
    name: undefined,
    meta,
    length: points.length,
    fields: [
      { name: 'Time', type: 'time', config: { interval: step * 1000 }, values: points.map(([time]) => time * 1000) },
      { name: labels.__name__ ?? 'Value', type: 'number', config: {}, labels, values: points.map(([, v]) => number(v)) },
    ],
  });
  if (data.resultType === 'scalar' || data.resultType === 'string') return [frame({}, [data.result])];
  return data.result.map((series) => {
    if (series.histogram || series.histograms) return heatmap(target, series);
    return frame(series.metric, series.value ? [series.value] : series.values);
  });
}

/** A native histogram as cells. */
function heatmap(target, series) {
  const cells = { time: [], min: [], max: [], count: [] };
  for (const [time, histogram] of series.histograms ?? [series.histogram]) {
    for (const [, lower, upper, count] of histogram.buckets ?? []) {
      cells.time.push(time * 1000);
      cells.min.push(number(lower));
      cells.max.push(number(upper));
      cells.count.push(number(count));
    }
  }
  const field = (name, type, values) => ({ name, type, config: {}, labels: series.metric, values });
  return {
    refId: target.refId,
    meta: { type: 'heatmap-cells' },
    length: cells.time.length,
    fields: [
      field('xMax', 'time', cells.time),
      field('yMin', 'number', cells.min),
      field('yMax', 'number', cells.max),
      field('count', 'number', cells.count),
    ],
  };
}

function exemplars(target, data) {
  const rows = data.flatMap(({ seriesLabels, exemplars }) =>
    exemplars.map(({ labels, value, timestamp }) => ({ ...seriesLabels, ...labels, Value: number(value), Time: timestamp * 1000 }))
  );
  const names = [...new Set(rows.flatMap(Object.keys))];
  const type = (name) => (name === 'Time' ? 'time' : name === 'Value' ? 'number' : 'string');
  return [
    {
      refId: target.refId,
      name: 'exemplar',
      meta: { custom: { resultType: 'exemplar' } },
      length: rows.length,
      fields: names.map((name) => ({ name, type: type(name), config: {}, values: rows.map((row) => row[name]) })),
    },
  ];
}

const runtime = {
  __esModule: true,
  DataSourceWithBackend: Backend,
  config: { featureToggles: {}, bootData: { user: {} }, buildInfo: {} },
  getBackendSrv: () => backendSrv,
  getTemplateSrv: () => templateSrv,
  getDataSourceSrv: () => ({ getInstanceSettings: () => undefined }),
  isFetchError: (error) => typeof error === 'object' && error !== null && 'status' in error,
  reportInteraction() {},
};
const STUBBED = [/^@grafana\/(ui|plugin-ui)($|\/)/, /@grafana\/assistant/, /^monaco-/, /^react-(use|window|highlight|select)/, /^@emotion/];
const load = Module._load;
Module._load = function (request, ...rest) {
  if (request === '@grafana/runtime') return new Proxy(runtime, { get: (own, key) => own[key] ?? stub() });
  if (STUBBED.some((pattern) => pattern.test(request))) return stub();
  return load.call(this, request, ...rest);
};

const { PrometheusDatasource } = require('@grafana/prometheus');
const { dateTime } = require('@grafana/data');

// Errors that the package swallows and tells the console are failures here.
const said = [];
console.error = (...words) => said.push(words.map((word) => word?.stack ?? JSON.stringify(word) ?? String(word)).join(' '));
console.warn = console.error;

const range = { from: dateTime((end - 3600) * 1000), to: dateTime(end * 1000), raw: { from: 'now-1h', to: 'now' } };
const source = (httpMethod, more = {}) =>
  new PrometheusDatasource({
    uid: 'varve', name: 'varve', type: 'prometheus', access: 'proxy', url: '/proxy', meta: {},
    jsonData: { httpMethod, prometheusType: 'Prometheus', prometheusVersion: '3.5.0', ...more },
  }, templateSrv);
const texts = (found) => found.map(({ text }) => text);

/** A panel's request. */
const panel = (targets, more = {}) => ({
  app: 'dashboard', requestId: 'Q1', panelId: 1, range, rangeRaw: range.raw, interval: '15s', intervalMs: 15000,
  maxDataPoints: 240, timezone: 'browser', scopedVars: {}, startTime: 0, targets, ...more,
});
const ask = (datasource, targets, more) => lastValueFrom(datasource.query(panel(targets, more)));
const value = (frame) => frame.fields.find((field) => field.type === 'number');

async function metadata(httpMethod, more) {
  const datasource = source(httpMethod, more);
  await datasource.init();
  await datasource.loadRules();
  assert.equal(datasource.exemplarsAvailable, true, 'the probe for exemplars');
  const provider = datasource.languageProvider;
  await provider.start(range);
  const metrics = provider.retrieveMetrics();
  for (const name of ['requests_total', 'latency_bucket', 'latency_count', 'native', 'my.metric']) {
    assert.ok(metrics.includes(name), `${name} in ${metrics}`);
  }
  assert.deepEqual(provider.retrieveHistogramMetrics(), ['latency_bucket']);
  const keys = provider.retrieveLabelKeys();
  for (const key of ['job', 'instance', 'code', 'le', 'http.status:code']) assert.ok(keys.includes(key), `${key} in ${keys}`);
  const described = provider.retrieveMetricsMetadata();
  assert.equal(described.requests_total?.type, 'counter');
  assert.equal(described.requests_total?.help, 'Requests served.');

  assert.deepEqual(await provider.queryLabelValues(range, 'job'), ['api', 'web']);
  assert.deepEqual(await provider.queryLabelValues(range, 'instance', '{job="api"}'), ['i1', 'i2']);
  assert.deepEqual(await provider.queryLabelValues(range, 'job', undefined, 1).then((all) => all.length), 1);
  assert.deepEqual(await provider.queryLabelValues(range, 'http.status:code'), ['200']);
  assert.deepEqual(await provider.queryLabelValues(range, 'nothing'), []);
  assert.deepEqual((await provider.queryLabelKeys(range, '{__name__="latency_bucket"}')).includes('le'), true);
  assert.deepEqual((await provider.queryLabelKeys(range, '{__name__="my.metric"}')).includes('le'), false);

  const find = (text) => datasource.metricFindQuery(text, { range });
  assert.deepEqual(texts(await find('label_values(job)')), ['api', 'web']);
  assert.deepEqual(texts(await find('label_values(requests_total{job="$job"}, instance)')), ['i1', 'i2']);
  assert.deepEqual(texts(await find('label_values(requests_total{instance=~"$instance"}, code)')), ['200', '500']);
  assert.deepEqual(texts(await find('label_values({}, job)')), ['api', 'web']);
  assert.ok(texts(await find('label_names()')).includes('instance'));
  assert.ok(texts(await find('label_names(latency)')).includes('le'));
  assert.deepEqual(texts(await find('metrics(requests.*)')), ['requests_total']);
  assert.match(texts(await find('query_result(sum by (job) (requests_total))')).join('|'), /^\{job="api"\} \d+ \d+\|\{job="web"\} \d+ \d+$/);
  assert.deepEqual(texts(await find('query_result(1 + 1)')).length, 1);
  assert.equal((await find('requests_total{job="api"}')).length, 4);
  const keysOf = await datasource.getTagKeys({ filters: [], timeRange: range });
  assert.ok(texts(keysOf).includes('job'));
  const valuesOf = await datasource.getTagValues({ key: 'code', filters: [{ key: 'job', operator: '=', value: 'api' }], timeRange: range });
  assert.deepEqual(texts(valuesOf), ['200', '500']);
  const keysNear = await datasource.getTagKeys({ filters: [], timeRange: range, queries: [{ refId: 'A', expr: 'latency_bucket' }] });
  assert.ok(texts(keysNear).includes('le') && !texts(keysNear).includes('code'));
}

async function queries(httpMethod) {
  const datasource = source(httpMethod, { exemplarTraceIdDestinations: [{ name: 'trace_id', url: 'http://traces/${__value.raw}' }] });
  await datasource.languageProvider.start(range);

  let { data } = await ask(datasource, [{ refId: 'A', expr: 'sum by (job) (rate(requests_total{job=~"$job|web"}[$__rate_interval]))', range: true, legendFormat: '__auto' }]);
  assert.equal(data.length, 2);
  assert.equal(data[0].meta.preferredVisualisationType, 'graph');
  assert.ok(value(data[0]).values.length > 200 && value(data[0]).values.every((rate) => rate > 0));

  ({ data } = await ask(datasource, [{ refId: 'A', expr: 'requests_total', instant: true, format: 'table' }]));
  assert.deepEqual(data[0].fields.map(({ name }) => name), ['Time', '__name__', 'code', 'instance', 'job', 'Value']);
  assert.equal(data[0].length, 8);

  ({ data } = await ask(datasource, [{ refId: 'A', expr: 'latency_bucket{job="api"}', range: true, format: 'heatmap' }]));
  assert.deepEqual(data[0].fields.slice(1).map(({ name, config }) => config.displayNameFromDS ?? name), ['0.1', '1', '+Inf']);

  ({ data } = await ask(datasource, [{ refId: 'A', expr: 'native', range: true }]));
  assert.equal(data[0].meta.type, 'heatmap-cells');
  assert.ok(data[0].length > 200);

  // Explore asks for both at once.
  ({ data } = await ask(datasource, [{ refId: 'A', expr: 'sum(requests_total)', instant: true, range: true }], { app: 'explore' }));
  assert.deepEqual(data.map(({ meta }) => meta.custom.resultType), ['matrix', 'vector']);

  ({ data } = await ask(datasource, [{ refId: 'A', expr: 'rate(requests_total{job="api"}[1m])', range: true, exemplar: true }]));
  const dots = data.find(({ name }) => name === 'exemplar');
  assert.equal(dots.meta.dataTopic, 'annotations');
  const trace = dots.fields.find(({ name }) => name === 'trace_id');
  assert.deepEqual(trace.values, ['abc123']);
  assert.equal(trace.config.links.length, 1);

  for (const expr of ['1', '"text"', 'vector(1)', 'nothing_here', 'time()']) {
    ({ data } = await ask(datasource, [{ refId: 'A', expr, instant: true }]));
    assert.equal(data.length, expr === 'nothing_here' ? 0 : 1, expr);
  }

  // Filters that a user clicks, and what the builder adds.
  const filtered = { filters: [{ key: 'code', operator: '=|', values: ['500'], value: '500' }] };
  ({ data } = await ask(datasource, [{ refId: 'A', expr: 'requests_total', instant: true }], filtered));
  assert.equal(data.length, 4);
  let query = { refId: 'A', expr: 'latency_bucket' };
  for (const action of [{ type: 'ADD_FILTER', options: { key: 'job', value: 'api' } }, { type: 'ADD_HISTOGRAM_QUANTILE' }]) {
    query = datasource.modifyQuery(query, action);
  }
  ({ data } = await ask(datasource, [{ ...query, range: true }]));
  assert.ok(value(data[0]).values.some((quantile) => quantile > 0));
  for (const type of ['AVG', 'FRACTION', 'COUNT', 'SUM', 'STDDEV', 'STDVAR', 'QUANTILE']) {
    const built = datasource.modifyQuery({ refId: 'A', expr: 'native' }, { type: `ADD_HISTOGRAM_${type}` });
    if (type === 'QUANTILE') built.expr = built.expr.replace(' by (le)', '');
    ({ data } = await ask(datasource, [{ ...built, range: true }]));
    assert.ok(data.length === 1 && value(data[0]).values.every(Number.isFinite), type);
  }
  datasource.getQueryHints({ refId: 'A', expr: 'requests_total' }, []);

  // What a panel shows again a minute later: only the new part is asked for.
  const again = source(httpMethod, { incrementalQuerying: true });
  const targets = [{ refId: 'A', expr: 'requests_total{code="200"}', range: true }];
  const first = await ask(again, targets);
  const second = await ask(again, targets);
  assert.deepEqual(second.data.map((frame) => value(frame).values.at(-1)), first.data.map((frame) => value(frame).values.at(-1)));

  // An annotation.
  const annotation = datasource.annotations.prepareAnnotation({ name: 'busy', expr: 'requests_total{code="500"} > bool 100', step: '60s', tagKeys: 'job', titleFormat: '{{job}}' });
  ({ data } = await ask(datasource, [{ ...annotation.target, range: true, instant: false }]));
  const events = await lastValueFrom(datasource.annotations.processEvents(annotation, data));
  assert.ok(events.length > 0 && events[0].tags.length === 1 && events[0].timeEnd >= events[0].time);

  // A template variable as the editor stores it.
  const found = await lastValueFrom(datasource.variables.query({ range, scopedVars: {}, targets: [{ refId: 'A', query: 'label_values(instance)' }] }));
  assert.deepEqual(texts(found.data), ['i1', 'i2']);

  // An error reaches the panel with Prometheus's words.
  const count = refused.length;
  await assert.rejects(ask(datasource, [{ refId: 'A', expr: 'rate(requests_total)', range: true }]), (error) => {
    assert.equal(error.status, 400);
    assert.equal(error.data.errorType, 'bad_data');
    assert.match(error.data.error, /expected type range vector in call to function "rate", got instant vector/);
    return true;
  });
  refused.length = count;
}

/** "Save & test": Grafana's server asks these. */
async function health() {
  const { data } = await call('POST', '/api/v1/query', { query: '1+1', time: 4 });
  assert.deepEqual(data.data, { resultType: 'scalar', result: [4, '2'] });
  const info = (await call('GET', '/api/v1/status/buildinfo')).data.data;
  assert.match(info.version, /^3\.\d+\.\d+/);
  assert.ok(!info.features || Object.keys(info.features).length === 0, 'features would make Grafana think of Mimir');
}

(async () => {
  await health();
  for (const method of ['POST', 'GET']) {
    await metadata(method);
    await queries(method);
  }
  // Older settings: everything by the endpoint for series.
  await metadata('POST', { seriesEndpoint: true });
  assert.deepEqual(said, [], 'errors told to the console');
  assert.deepEqual(refused, [], 'calls that were refused');
  const kinds = [...new Set(calls)].sort();
  process.stdout.write(`${calls.length} calls of ${kinds.length} kinds: ${kinds.join(', ')}\n`);
})().catch((error) => {
  process.stderr.write(`${error?.stack ?? JSON.stringify(error)}\nrefused: ${JSON.stringify(refused, null, 1)}\nsaid: ${said.join('\n')}\n`);
  process.exit(1);
});
