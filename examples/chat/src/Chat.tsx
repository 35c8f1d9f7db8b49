// Who you are, the channels, and what was said in one of them: three live queries.
import { insertAtTop, useMutation, usePaginatedQuery, useQuery } from "convex/react";
import { type FormEvent, type KeyboardEvent, useState } from "react";
import { api } from "../convex/_generated/api";
import type { Doc, Id } from "../convex/_generated/dataModel";
import { said } from "./Connection";

const PAGE = 20;

type User = { id: Id<"users">; name: string };

/** The door first, then the rooms. */
export function Chat() {
  const [user, setUser] = useState<User>();
  return user === undefined ? <Door onEnter={setUser} /> : <Rooms user={user} />;
}

function Door({ onEnter }: { onEnter: (user: User) => void }) {
  const enter = useMutation(api.users.enter);
  // Of this window only: two windows are two people.
  const [name, setName] = useState(sessionStorage.getItem("name") ?? "");
  const [entering, setEntering] = useState(false);
  const [error, setError] = useState<string>();
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setEntering(true);
    try {
      const id = await enter({ name });
      sessionStorage.setItem("name", name);
      onEnter({ id, name });
    } catch (error) {
      setError(said(error));
      setEntering(false);
    }
  };
  return (
    <form className="door" onSubmit={submit}>
      <h1>chat</h1>
      <label>
        Your name
        <input name="name" value={name} onChange={(e) => setName(e.target.value)} autoFocus />
      </label>
      <button disabled={entering}>{entering ? "Entering…" : "Enter"}</button>
      <Failed error={error} />
    </form>
  );
}

function Rooms({ user }: { user: User }) {
  const channels = useQuery(api.channels.list);
  const [chosen, choose] = useState<Id<"channels">>();
  const channel = channels?.find((channel) => channel._id === chosen) ?? channels?.[0];
  return (
    <div className="rooms">
      <nav>
        <h1>chat</h1>
        {channels === undefined && <p className="quiet">Loading channels…</p>}
        {channels?.length === 0 && <p className="quiet">No channels yet. Open the first one.</p>}
        <ul>
          {channels?.map((each) => (
            <li key={each._id}>
              <button aria-pressed={each === channel} onClick={() => choose(each._id)}>
                # {each.name} <small>{each.messages}</small>
              </button>
            </li>
          ))}
        </ul>
        <Open onOpen={choose} />
        <p className="quiet">You are {user.name}.</p>
      </nav>
      {channel && <Room key={channel._id} channel={channel} user={user} />}
    </div>
  );
}

function Open({ onOpen }: { onOpen: (channel: Id<"channels">) => void }) {
  const open = useMutation(api.channels.open);
  const [name, setName] = useState("");
  const [error, setError] = useState<string>();
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setError(undefined);
    try {
      onOpen(await open({ name }));
      setName("");
    } catch (error) {
      setError(said(error));
    }
  };
  return (
    <form onSubmit={submit}>
      <input
        name="channel"
        aria-label="New channel"
        placeholder="new-channel"
        value={name}
        onChange={(e) => setName(e.target.value)}
      />
      <button>Open</button>
      <Failed error={error} />
    </form>
  );
}

function Room({ channel, user }: { channel: Doc<"channels">; user: User }) {
  const args = { channel: channel._id };
  const pages = usePaginatedQuery(api.messages.list, args, { initialNumItems: PAGE });
  return (
    <main>
      <header>
        <h2># {channel.name}</h2>
        <span className="quiet">{channel.topic}</span>
      </header>
      {/* Newest first, drawn from the bottom up: the newest stays in view. */}
      <ol className="messages">
        {pages.results.map((message) => (
          <li key={message.id} className={isPending(message.id) ? "pending" : undefined}>
            <strong>{message.author}</strong> <span>{message.body}</span>
          </li>
        ))}
        <li className="edge">
          {pages.status === "CanLoadMore" ? (
            <button onClick={() => pages.loadMore(PAGE)}>Load more</button>
          ) : pages.isLoading ? (
            "Loading messages…"
          ) : pages.results.length === 0 ? (
            "Nothing was said here yet."
          ) : (
            "This is where it began."
          )}
        </li>
      </ol>
      <Composer channel={channel} user={user} />
    </main>
  );
}

const isPending = (id: string) => id.startsWith("pending-");

function Composer({ channel, user }: { channel: Doc<"channels">; user: User }) {
  // Shows the message at once, paler, until the host's own answer takes its place.
  const send = useMutation(api.messages.send).withOptimisticUpdate((store, { channel, body }) => {
    const id = `pending-${crypto.randomUUID()}` as Id<"messages">;
    insertAtTop({
      paginatedQuery: api.messages.list,
      argsToMatch: { channel },
      localQueryStore: store,
      item: { id, author: user.name, body },
    });
  });
  const [body, setBody] = useState("");
  const [error, setError] = useState<string>();
  const submit = async (event: { preventDefault(): void }) => {
    event.preventDefault();
    setBody("");
    setError(undefined);
    try {
      await send({ channel: channel._id, author: user.id, body });
    } catch (error) {
      setError(said(error));
      // What could not be sent comes back, unless something else is being written by now.
      setBody((current) => (current === "" ? body : current));
    }
  };
  const enterSends = (event: KeyboardEvent) => {
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      void submit(event);
    }
  };
  return (
    <form className="composer" onSubmit={submit}>
      <Failed error={error} />
      <textarea
        name="body"
        rows={1}
        aria-label="Message"
        placeholder={`Say something in #${channel.name}`}
        value={body}
        onChange={(e) => setBody(e.target.value)}
        onKeyDown={enterSends}
        autoFocus
      />
      <button disabled={body === ""}>Send</button>
    </form>
  );
}

function Failed({ error }: { error: string | undefined }) {
  return error === undefined ? null : (
    <p className="failed" role="alert">
      {error}
    </p>
  );
}
