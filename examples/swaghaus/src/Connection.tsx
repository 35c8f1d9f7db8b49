// What the page says when it is not live: no connection, or a query that failed.
import { useConvexConnectionState } from "convex/react";
import { ConvexError } from "convex/values";
import { Component, type ReactNode } from "react";

/** A line across the page as long as what is shown may be out of date. */
export function Connection({ address }: { address: string }) {
  const { isWebSocketConnected, hasEverConnected, connectionRetries } = useConvexConnectionState();
  if (isWebSocketConnected) {
    return null;
  }
  const text = hasEverConnected
    ? "Connection lost. Reconnecting… What you see may be out of date."
    : connectionRetries === 0
      ? "Connecting…"
      : `Nothing answers at ${address}. Is concave dev running? Trying again…`;
  return (
    <p className="connection" role="status">
      {text}
    </p>
  );
}

/**
 * Shows a query's error in place of the page, and tries again after a second, two, four, …: a host
 * that has just started may not have its functions yet.
 */
export class Problem extends Component<{ children: ReactNode }, { error: unknown }> {
  state = { error: undefined as unknown };
  private wait = 1000;
  private timer: ReturnType<typeof setTimeout> | undefined;

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  componentDidCatch() {
    this.timer = setTimeout(this.tryAgain, this.wait);
    this.wait = Math.min(2 * this.wait, 30_000);
  }

  componentWillUnmount() {
    clearTimeout(this.timer);
  }

  private tryAgain = () => {
    clearTimeout(this.timer);
    this.setState({ error: undefined });
  };

  render() {
    if (this.state.error === undefined) {
      return this.props.children;
    }
    return (
      <div className="problem" role="alert">
        <h1>That did not work</h1>
        <pre>{said(this.state.error)}</pre>
        <button onClick={this.tryAgain}>Try again now</button>
      </div>
    );
  }
}

/** An error in words: the data that the function threw, or its message. */
export function said(error: unknown): string {
  if (error instanceof ConvexError) {
    const { code, ...rest } = error.data as { code: string };
    const details = Object.entries(rest).map(([name, value]) => `${name}: ${value}`);
    return details.length === 0 ? code : `${code} (${details.join(", ")})`;
  }
  return error instanceof Error ? error.message : String(error);
}
