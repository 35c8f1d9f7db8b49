// The shelf and your cart: two live queries, and one mutation that shows at once.
import { useMutation, useQuery } from "convex/react";
import { useState } from "react";
import { api } from "../convex/_generated/api";
import type { Doc, Id } from "../convex/_generated/dataModel";
import { said } from "./Connection";

/** The whole page. */
export function Shop() {
  const [buyer, setBuyer] = useState(remembered);
  const rename = (name: string) => {
    sessionStorage.setItem("buyer", name);
    setBuyer(name);
  };
  return (
    <div className="shop">
      <header>
        <h1>swaghaus</h1>
        <label>
          Buyer
          <input name="buyer" value={buyer} onChange={(e) => rename(e.target.value)} />
        </label>
      </header>
      <Shelf buyer={buyer} />
      <Cart buyer={buyer} />
    </div>
  );
}

/** The buyer of this window: two windows are two people. */
function remembered(): string {
  const name = sessionStorage.getItem("buyer") ?? `guest-${crypto.randomUUID().slice(0, 4)}`;
  sessionStorage.setItem("buyer", name);
  return name;
}

function Shelf({ buyer }: { buyer: string }) {
  const items = useQuery(api.shop.getItems);
  const addCart = useAddCart();
  // Kept here: what is sold out leaves the shelf, and must not take its message along.
  const [error, setError] = useState<string>();
  const add = async (item: Id<"items">) => {
    setError(undefined);
    try {
      await addCart({ buyer, item });
    } catch (error) {
      setError(said(error));
    }
  };
  return (
    <main>
      {error !== undefined && (
        <p className="failed" role="alert">
          {error}
        </p>
      )}
      {items === undefined && <p className="quiet">Looking at the shelf…</p>}
      {items?.length === 0 && (
        <p className="quiet">
          The shelf is empty. Fill it: <code>concave run stock:refill</code>
        </p>
      )}
      <ul className="shelf">
        {items?.map((item) => (
          <Item key={item._id} item={item} onAdd={() => add(item._id)} />
        ))}
      </ul>
    </main>
  );
}

function Item({ item, onAdd }: { item: Doc<"items">; onAdd: () => void }) {
  return (
    <li data-item={item.name}>
      <h2>{item.name}</h2>
      <p>{item.description}</p>
      <p className="price">€ {item.price}</p>
      <p className={item.stock <= 3 ? "stock few" : "stock"}>
        <span className="left">{item.stock}</span> left
      </p>
      <button onClick={onAdd}>Add to cart</button>
    </li>
  );
}

/** `addCart`, shown before the host has answered: one piece fewer here, one more there. */
function useAddCart() {
  return useMutation(api.shop.addCart).withOptimisticUpdate((store, { buyer, item: id }) => {
    const items = store.getQuery(api.shop.getItems, {});
    const item = items?.find((item) => item._id === id);
    if (items === undefined || item === undefined) {
      return;
    }
    const left = items.map((each) => (each === item ? { ...item, stock: item.stock - 1 } : each));
    store.setQuery(api.shop.getItems, {}, left.filter((each) => each.stock > 0));

    const { name, price } = item;
    const cart = store.getQuery(api.shop.getCart, { buyer });
    if (cart !== undefined) {
      const line = cart.find((line) => line.name === name) ?? { name, price, quantity: 0 };
      const more = { ...line, quantity: line.quantity + 1 };
      const lines = cart.includes(line)
        ? cart.map((each) => (each === line ? more : each))
        : [...cart, more];
      store.setQuery(api.shop.getCart, { buyer }, lines);
    }
  });
}

function Cart({ buyer }: { buyer: string }) {
  const cart = useQuery(api.shop.getCart, { buyer });
  const total = cart?.reduce((sum, line) => sum + line.price * line.quantity, 0);
  return (
    <aside className="cart">
      <h2>Cart</h2>
      {cart === undefined && <p className="quiet">Looking into the cart…</p>}
      {cart?.length === 0 && <p className="quiet">Nothing in it yet.</p>}
      <ul>
        {cart?.map((line) => (
          <li key={line.name}>
            <span>
              {line.quantity} × {line.name}
            </span>
            <span>€ {line.quantity * line.price}</span>
          </li>
        ))}
      </ul>
      {total !== undefined && total > 0 && <p className="total">€ {total}</p>}
    </aside>
  );
}
