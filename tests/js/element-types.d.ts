/** The events of `<org-notifications>`; they bubble, so a document hears them too. */
export interface NotificationsEventMap {
    "orgrealtime:event": CustomEvent<RealtimeEvent>;
    "orgrealtime:user": CustomEvent<UserChange>;
    "orgrealtime:state": CustomEvent<State>;
    "orgrealtime:reset": CustomEvent<Reset & { waitUntil(promise: Promise<unknown>): void }>;
}
/** What a template may give to `<org-notifications>`. */
export interface NotificationsAttributes {
    org?: string | undefined;
    since?: string | undefined;
    "share-key"?: string | number | undefined;
    share?: "off" | undefined;
    url?: string | undefined;
    "catch-up-url"?: string | undefined;
    "stream-url"?: string | undefined;
    label?: string | undefined;
    texts?: string | undefined;
}
declare global {
    interface HTMLElementTagNameMap {
        "org-notifications": OrgNotifications;
    }
    interface HTMLElementEventMap extends NotificationsEventMap {}
    interface DocumentEventMap extends NotificationsEventMap {}
    interface WindowEventMap extends NotificationsEventMap {}
}
// Where React or Vue isn't installed, there is nothing to add to.
// @ts-ignore
declare module "react" { namespace JSX { interface IntrinsicElements { "org-notifications": import("react").DetailedHTMLProps<import("react").HTMLAttributes<OrgNotifications>, OrgNotifications> & NotificationsAttributes } } }
// @ts-ignore
declare module "vue" { interface GlobalComponents { "org-notifications": import("vue").DefineComponent<NotificationsAttributes & import("vue").HTMLAttributes> } }
