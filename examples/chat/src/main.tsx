// Connects the page to its host, whose address `concave dev` writes to .env.local.
import { ConvexProvider, ConvexReactClient } from "convex/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Chat } from "./Chat";
import { Connection, Problem } from "./Connection";
import "./page.css";

const address = import.meta.env.VITE_CONVEX_URL ?? "http://127.0.0.1:3210";
const client = new ConvexReactClient(address);

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <ConvexProvider client={client}>
      <Connection address={address} />
      <Problem>
        <Chat />
      </Problem>
    </ConvexProvider>
  </StrictMode>,
);
