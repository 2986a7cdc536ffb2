/** A page in React: the state of the connection, what is published while it is open, and the bell. */

import { StrictMode, useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import { type Client, type Options, type RealtimeEvent, type State, connect } from "orgrealtime";
import { type OrgNotifications, describe } from "orgrealtime/notifications";

const config: Options = JSON.parse(document.getElementById("orgrealtime-config")?.textContent ?? "{}");

function useOrgEvents(onEvent: (event: RealtimeEvent) => void): [State, Client | null] {
  const [state, setState] = useState<State>({ name: "connecting" });
  const [client, setClient] = useState<Client | null>(null);
  const handler = useRef(onEvent);
  handler.current = onEvent;
  useEffect(() => {
    const made = connect({
      ...config,
      onEvent: (event) => handler.current(event),
      onReset: () => location.reload(),
      onState: setState,
    });
    setClient(made);
    return () => made.close();
  }, []);
  return [state, client];
}

function Page() {
  const [notes, setNotes] = useState<RealtimeEvent[]>([]);
  const [state, client] = useOrgEvents((event) => setNotes((before) => [...before, event]));
  const bell = useRef<OrgNotifications>(null);
  useEffect(() => {
    const element = document.querySelector("org-notifications");
    if (!element || !client) return;
    element.format = (event) => ({ ...describe(event), text: `${event.text}!`, actor: undefined });
    element.client = client;
    const listen = (event: CustomEvent<RealtimeEvent>) => element.setAttribute("data-last", event.detail.cursor);
    element.addEventListener("orgrealtime:event", listen);
    return () => element.removeEventListener("orgrealtime:event", listen);
  }, [client]);
  return (
    <>
      <org-notifications ref={bell} org={config.org} share-key={String(config.shareKey)} />
      <p id="state">{state.name}</p>
      <ul id="notes">
        {notes.map((note) => (
          <li key={note.cursor}>{note.text}</li>
        ))}
      </ul>
    </>
  );
}

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Page />
    </StrictMode>,
  );
}
