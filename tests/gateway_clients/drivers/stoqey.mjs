// @stoqey/ib on Node plays the session. The same words as report.py: see there for what each part of the report is.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const [library, portText, environment] = process.argv.slice(2);
const port = Number(portText);
const session = JSON.parse(readFileSync(0, "utf8"));
const require = createRequire(join(environment, "package.json"));
const { IBApi, EventName, SecType } = require("@stoqey/ib");
const version = JSON.parse(readFileSync(join(environment, "node_modules/@stoqey/ib/package.json"), "utf8")).version;

const LOOPBACK = "127.0.0.1";
const FIRST_REQUEST = 1_000_000;
const LEG_PARTS = 5;
const SIDES = { BOT: "BUY", SLD: "SELL" };
const deadlineMs = session.deadline_s * 1000;

const report = {
  library, version, server_version: 0, steps: [], orders: {}, fills: {}, positions: {}, account: {}, complaints: [],
  transcript: {},
};
const commissions = {};
const refs = new Map();
const firstIds = {};
const extras = {};
const contracts = {};
const placed = {};
let requests = FIRST_REQUEST;
let line;

const text = (value) => String(Number(value ?? 0));
const isLeg = (execId) => execId.split(".").length >= LEG_PARTS;
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** One connection and what it says. */
class Line {
  constructor(clientId, keeps) {
    this.clientId = clientId;
    this.nextOrderId = 0;
    this.accounts = [];
    this.codes = [];
    this.details = [];
    this.shown = [];
    this.done = {};
    this.answers = new Set();
    this.closed = false;
    this.waiters = [];
    this.api = new IBApi({ host: LOOPBACK, port });
    this.api.on(EventName.disconnected, () => { this.closed = true; this.changed(); });
    this.api.on(EventName.server, (serverVersion) => { this.serverVersion = serverVersion; });
    this.api.on(EventName.info, (message, code) => this.error(-1, code, keeps));
    this.api.on(EventName.error, (error, code, id) => this.error(id, code, keeps, error));
    this.api.on(EventName.nextValidId, (id) => { this.nextOrderId = Math.max(this.nextOrderId, id); this.changed(); });
    this.api.on(EventName.managedAccounts, (list) => {
      this.accounts = list.split(",").filter(Boolean);
      this.changed();
    });
    if (keeps) this.keep();
  }

  changed() {
    for (const wake of this.waiters.splice(0)) wake();
  }

  note(...fields) {
    (report.transcript[this.clientId] ??= []).push(fields);
    this.changed();
  }

  error(id, code, keeps, error) {
    this.codes.push(code);
    if (keeps) this.note("error", id, code);
    if (keeps && error?.code) report.complaints.push(`socket: ${error.message}`);
    this.changed();
  }

  /** Write down every message that the transcript is about. */
  keep() {
    const on = (name, listener) => this.api.on(name, listener);
    on(EventName.openOrder, (orderId, contract, order, state) => {
      this.shown.push(order.orderRef);
      refs.set(`${order.clientId}:${orderId}`, order.orderRef);
      extras[order.orderRef] = {
        legs: contract.comboLegs?.length ?? 0, conditions: order.conditions?.length ?? 0, algo: order.algoStrategy,
        hedge: order.hedgeType, scale: text(order.scalePriceIncrement),
      };
      firstIds[order.orderRef] ??= [orderId, order.permId];
      const known = (report.orders[order.orderRef] ??= {});
      Object.assign(known, {
        order_id: orderId, perm_id: order.permId, quantity: text(order.totalQuantity), limit: text(order.lmtPrice),
      });
      known.status ??= state.status;
      this.note("openOrder", orderId, state.status, text(order.totalQuantity));
    });
    on(EventName.orderStatus, (orderId, status, filled, remaining, average, permId, parentId, last, clientId) => {
      const ref = refs.get(`${clientId}:${orderId}`);
      if (ref !== undefined) {
        Object.assign((report.orders[ref] ??= {}), { status, filled: text(filled), average: text(average) });
      }
      this.note("orderStatus", orderId, status, text(filled), text(remaining));
    });
    on(EventName.execDetails, (reqId, contract, e) => {
      report.fills[e.execId] = {
        ref: e.orderRef, action: SIDES[e.side] ?? e.side, quantity: text(e.shares), price: text(e.price),
      };
      if (!isLeg(e.execId)) {
        const order = (report.orders[e.orderRef] ??= {});
        Object.assign(order, { filled: text(e.cumQty), average: text(e.avgPrice) });
        if (reqId !== -1 && order.quantity === text(e.cumQty)) order.status = "Filled";
      }
      this.note("execDetails", e.orderId, e.execId, e.orderRef);
    });
    on(EventName.commissionReport, (r) => {
      commissions[r.execId] = text(r.commission);
      this.note("commissionReport", r.execId);
    });
    on(EventName.completedOrder, (contract, order, state) => {
      this.done[order.orderRef] = state.status;
      Object.assign((report.orders[order.orderRef] ??= {}), { status: state.status, perm_id: order.permId });
      this.note("completedOrder", order.orderRef, state.status, order.permId);
    });
    on(EventName.position, (account, contract, quantity) => {
      report.positions[contract.symbol] = text(quantity);
      this.note("position", account, contract.symbol, text(quantity));
    });
    on(EventName.updateAccountValue, (tag, value) => { report.account[tag] = value; });
    on(EventName.contractDetails, (reqId, details) => this.details.push(details));
    on(EventName.currentTime, (time) => { this.seconds = time; });
    for (const name of ["contractDetailsEnd", "openOrderEnd", "execDetailsEnd", "completedOrdersEnd", "positionEnd",
      "accountDownloadEnd", "currentTime"]) {
      on(EventName[name], () => { this.answers.add(name); this.changed(); });
    }
  }
}

async function until(condition, what, seen, on = line) {
  const end = Date.now() + deadlineMs;
  while (!condition()) {
    const left = end - Date.now();
    if (left <= 0) throw new Error(`waited in vain for ${what}` + (seen ? `; there is ${JSON.stringify(seen())}` : ""));
    await new Promise((wake) => {
      const timer = setTimeout(wake, left);
      on.waiters.push(() => { clearTimeout(timer); wake(); });
    });
  }
}

/** Send a request and wait for the message that ends its answer. */
async function ask(end, request) {
  line.answers.delete(end);
  request(line.api);
  await until(() => line.answers.has(end), end);
}

function shown(names) {
  const changed = names.filter((r) => !same([report.orders[r].order_id, report.orders[r].perm_id], firstIds[r]));
  return {
    refs: [...names].sort(), ids_changed: changed, extras: Object.fromEntries(names.map((r) => [r, extras[r]])),
  };
}

function bag(order) {
  const comboLegs = order.legs.map((leg) => ({
    conId: contracts[leg.symbol].conId, ratio: leg.ratio, action: leg.action, exchange: "SMART",
  }));
  return { symbol: order.symbol, secType: SecType.BAG, exchange: "SMART", currency: "USD", comboLegs };
}

const steps = {
  async connect({ client_id: clientId }) {
    line = new Line(clientId, true);
    line.api.connect(clientId);
    await until(() => line.nextOrderId && line.accounts.length, "nextValidId and managedAccounts");
    report.server_version = line.serverVersion;
    return { accounts: line.accounts };
  },
  async disconnect() {
    await ask("currentTime", (api) => api.reqCurrentTime());
    line.api.disconnect();
    await until(() => line.closed, "the connection's end");
  },
  async qualify({ symbol }) {
    line.details.length = 0;
    const asked = { symbol, secType: SecType.STK, exchange: "SMART", currency: "USD" };
    await ask("contractDetailsEnd", (api) => api.reqContractDetails(requests++, asked));
    const [first] = line.details;
    contracts[symbol] = first.contract;
    return {
      con_id: first.contract.conId, min_tick: first.minTick, long_name: first.longName, found: line.details.length,
    };
  },
  async place({ ref, order }) {
    const contract = order.legs ? bag(order) : contracts[order.symbol];
    const ticket = {
      action: order.action, totalQuantity: order.quantity, orderType: order.type, tif: order.tif, orderRef: ref,
      account: session.account, ocaGroup: order.group, ocaType: order.group_type, lmtPrice: order.limit,
      auxPrice: order.stop, transmit: true,
    };
    const orderId = line.nextOrderId++;
    refs.set(`${line.clientId}:${orderId}`, ref);
    placed[ref] = { orderId, contract, ticket };
    line.api.placeOrder(orderId, contract, ticket);
  },
  async modify({ ref, order }) {
    const { orderId, contract, ticket } = placed[ref];
    ticket.totalQuantity = order.quantity ?? ticket.totalQuantity;
    ticket.lmtPrice = order.limit;
    line.api.placeOrder(orderId, contract, ticket);
    const known = report.orders[ref];
    await until(() => known.limit === text(order.limit), "the amendment's echo", () => known);
    return { quantity: Number(known.quantity), limit: Number(known.limit) };
  },
  async cancel({ ref }) {
    line.api.cancelOrder(placed[ref].orderId);
  },
  async executions() {
    await ask("execDetailsEnd", (api) => api.reqExecutions(requests++, {}));
    const shares = {};
    for (const [execId, fill] of Object.entries(report.fills)) {
      if (!isLeg(execId)) shares[fill.ref] = (shares[fill.ref] ?? 0) + Number(fill.quantity);
    }
    return { refs: shares, without_commission: Object.keys(report.fills).filter((id) => !(id in commissions)).sort() };
  },
  async open_orders() {
    line.shown.length = 0;
    await ask("openOrderEnd", (api) => api.reqOpenOrders());
    return shown(line.shown);
  },
  async all_open_orders({ prefix }) {
    line.shown.length = 0;
    await ask("openOrderEnd", (api) => api.reqAllOpenOrders());
    return shown(line.shown.filter((ref) => ref.startsWith(prefix)));
  },
  async completed_orders() {
    line.done = {};
    await ask("completedOrdersEnd", (api) => api.reqCompletedOrders(false));
    return { refs: line.done };
  },
  async positions() {
    await ask("positionEnd", (api) => api.reqPositions());
  },
  async account_values({ tags }) {
    await ask("accountDownloadEnd", (api) => api.reqAccountUpdates(true, session.account));
    return { missing: tags.filter((tag) => !(tag in report.account)) };
  },
  async current_time() {
    await ask("currentTime", (api) => api.reqCurrentTime());
    return { plausible: line.seconds > 1_700_000_000 };
  },
  async clash({ client_id: clientId }) {
    const second = new Line(clientId, false);
    second.api.connect(clientId);
    await until(() => second.closed, "the refused connection's end", null, second);
    return { refused_with: second.codes[0] ?? null, connected: second.accounts.length > 0 };
  },
};

for (const step of session.step) {
  const told = { saw: {}, problem: "" };
  try {
    told.saw = (await steps[step.do](step)) ?? {};
    const wanted = step.until ?? {};
    const found = () => Object.fromEntries(Object.keys(wanted).map((name) => [
      name, step.do === "positions" ? Number(report.positions[name]) : report.orders[name]?.status,
    ]));
    await until(() => same(found(), wanted), JSON.stringify(wanted), found);
  } catch (problem) {
    told.problem = problem.message;
  }
  report.steps.push(told);
  if (told.problem && step.do === "connect") break; // without a connection every step would only wait
}
for (const [execId, fill] of Object.entries(report.fills)) fill.commission = commissions[execId] ?? null;
process.stdout.write(JSON.stringify(report) + "\n", () => process.exit(0));
