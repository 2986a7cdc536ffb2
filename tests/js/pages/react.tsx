// A page with React. Compiled by package.test.mjs, never run.
import { connect, type Options, type RealtimeEvent, type Reset, type State } from "orgrealtime";
import "orgrealtime/notifications";
import { useEffect, useRef, useState } from "react";

type Props = Pick<Options, "org" | "since" | "shareKey"> & {
  onEvent?: (event: RealtimeEvent) => void;
  onReset?: (reset: Reset) => unknown;
};

export function useOrgEvents({ org, since, shareKey, onEvent, onReset }: Props): State {
  const [state, setState] = useState<State>({ name: "connecting" });
  const handlers = useRef<Pick<Props, "onEvent" | "onReset">>({});
  useEffect(() => {
    const client = connect({
      org,
      since,
      shareKey,
      onEvent: (event) => handlers.current.onEvent?.(event),
      onReset: (reset) => handlers.current.onReset?.(reset),
      onState: setState,
    });
    return () => client.close();
  }, [org, since, shareKey]);
  return state;
}

export const Bell = ({ org, since }: { org: string; since?: string | undefined }) => (
  <org-notifications key={org} org={org} since={since} share-key="7" className="bell" hidden={false} />
);

// @ts-expect-error: a slug is a text
export const Wrong = () => <org-notifications org={7} />;

export const Room = ({ people }: { people: string }) => <org-room org="acme" room="general" people={people} />;
